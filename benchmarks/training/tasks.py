"""What the training benchmarks share: the example data as tokens, a small Llama, PaddleNLP trainers, and one set of
samples as a packed or as a padded batch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

import paddle_flashmask
from paddle_flashmask.integrations.paddlenlp.alignment_config import AlignmentTraining, DPOOptions, KTOOptions
from paddle_flashmask.integrations.paddlenlp.data import JSONLines, PackDataset, PaddleNLPCollator, TokenizedRows
from paddle_flashmask.integrations.paddlenlp.preference_data import (
    DPOBatches,
    KTOBatches,
    RewardBatches,
    TokenizedAnswers,
)
from paddle_flashmask.integrations.paddlenlp.preference_rows import PreferenceLines
from paddle_flashmask.packing import (
    KTOCollator,
    PreferenceCollator,
    RewardCollator,
    SFTCollator,
    pack_kto,
    pack_preference,
    pack_reward,
    pack_sft,
)

ROOT = Path(__file__).resolve().parents[2]
# lora: SFT that trains adapters only.
TASKS = ("sft", "lora", "dpo", "kto", "rm")
CONTESTANTS = {
    "packed_flashmask": ("packed", "columns"),
    "packed_dense": ("packed", "dense"),
    "padded_dense": ("padded", "dense"),
    "packed_reversed": ("reversed", "columns"),
}
PACK = {"sft": pack_sft, "lora": pack_sft, "dpo": pack_preference, "rm": pack_reward, "kto": pack_kto}
LLAMA = {
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class Samples:
    """Token rows of one task, as its pack function takes them."""

    task: str
    train: list[dict]
    dev: list[dict]


def prepare(folder: Path, dev_pairs: int, shape: dict[str, int] = LLAMA) -> Path:
    """The example data (fetched with pip), a tokenizer trained on all of it but the held-out preferences, and a model
    configuration.

    dev_pairs: preference pairs held out, and half the word-order pairs held out. shape: the model's keys of LLAMA.
    """
    from paddlenlp.transformers import AutoConfig
    from preferences import marked, pairs
    from sft.prepare import PREFERENCES, download_instructions, download_rows, make_model, write_rows

    downloads, model = folder / "downloads", folder / "model"
    downloads.mkdir(parents=True, exist_ok=True)
    instructions = download_instructions(downloads)
    preferences = pairs(download_rows(downloads, PREFERENCES))
    write_rows(folder / "sft" / "train.json", instructions)
    order = word_order_pairs(instructions)
    for name, rows, held_out in (("preferences", preferences, dev_pairs), ("words", order, 2 * dev_pairs)):
        for part, chosen in (("train", rows[:-held_out]), ("dev", rows[-held_out:])):
            write_rows(folder / f"{name}-{part}.jsonl", chosen)
            write_rows(folder / f"{name}-kto-{part}.jsonl", marked(chosen))
    write_rows(folder / "words.jsonl", instructions + preferences[:-dev_pairs])
    make_model(model, folder / "words.jsonl")
    config = AutoConfig.from_pretrained(str(model))
    for key, value in shape.items():
        setattr(config, key, value)
    config.max_position_embeddings = 8192
    config.save_pretrained(str(model))
    return model


def word_order_pairs(instructions: list[dict[str, str]]) -> list[dict]:
    """Every instruction with its answer and, as the worse one, the words of that answer in a drawn order: pairs that a
    small model can learn to tell apart from a thousand of them, which it cannot do with 200 of people's preferences."""
    rng = np.random.default_rng(0)
    pairs = [
        {"src": row["src"], "tgt": "", "response": [row["tgt"], " ".join(rng.permutation(row["tgt"].split()))]}
        for row in instructions
        if len(row["tgt"].split()) > 4
    ]
    return [{**pairs[i], "sort": [1, 0]} for i in rng.permutation(len(pairs))]


def load_samples(task: str, folder: Path, tokenizer: Any, max_length: int, data: str = "preferences") -> Samples:
    """max_length: tokens of one document; longer preference rows are cut when they are packed.

    data: of `dpo`, `rm` and `kto`, "preferences" or "words".
    """
    if PACK[task] is pack_sft:
        return Samples(
            task, list(TokenizedRows(JSONLines(str(folder / "sft"), "train"), tokenizer, 256, max_length)), []
        )
    name = f"{data}-kto" if task == "kto" else data
    train, dev = (
        list(TokenizedAnswers(PreferenceLines(str(folder / f"{name}-{part}.jsonl"), task), tokenizer, max_length))
        for part in ("train", "dev")
    )
    return Samples(task, train, dev)


def load_tokenizer(folder: Path) -> Any:
    from paddlenlp.transformers import LlamaTokenizer

    tokenizer = LlamaTokenizer.from_pretrained(str(folder))
    tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def documents(task: str, rows: Sequence[dict], max_length: int) -> list[Any]:
    """Every row as a pack of its own."""
    return list(PACK[task](rows, max_length, order="single", too_long="truncate"))


def packed(task: str, rows: Sequence[dict], max_length: int) -> list[Any]:
    """All rows in one pack, in their order, each cut to max_length as `documents` cuts it."""
    alone = PACK[task](rows, max_length, order="single", too_long="truncate")
    if PACK[task] is pack_sft:
        whole = [{key: pack.__dict__[key] for key in ("input_ids", "labels")} for pack in alone]
    else:
        whole = [_row(task, pack) for pack in alone]
    (pack,) = PACK[task](whole, max_length * len(rows), order="sequential", too_long="error")
    return [pack]


def packed_reversed(task: str, rows: Sequence[dict], max_length: int) -> list[Any]:
    """As `packed`, the rows from the last one on: the same loss with another rounding."""
    return packed(task, rows[::-1], max_length)


LAYOUTS = {"packed": packed, "padded": documents, "reversed": packed_reversed}


def _row(task: str, pack: Any) -> dict:
    """The row that a pack of one question was made of."""
    answers = [(int(start), int(end)) for _, start, end in pack.answers]
    if task == "rm":
        return {
            "prompt": pack.input_ids[: answers[0][0]],
            "answers": [pack.input_ids[start:end] for start, end in answers],
        }
    prompt = pack.input_ids[: answers[0][0] + 1]
    first, second = (pack.labels[start:end] for start, end in answers)
    if task == "kto":
        return {"prompt": prompt, "answer": first, "kl_answer": second, "desirable": bool(pack.desirable[0])}
    return {"prompt": prompt, "chosen": first, "rejected": second}


def collator(task: str, mask: str, pad_token_id: int) -> Callable[[list], dict[str, np.ndarray]]:
    if PACK[task] is pack_sft:
        return PaddleNLPCollator(SFTCollator(pad_token_id, mask=mask))
    if task == "dpo":
        return DPOBatches(PreferenceCollator(pad_token_id, mask=mask))
    if task == "kto":
        return KTOBatches(KTOCollator(pad_token_id, mask=mask))
    return RewardBatches(RewardCollator(pad_token_id, mask=mask))


@contextlib.contextmanager
def attention(mask: str) -> Iterator[None]:
    """The operator for column masks; for the dense mask PaddleNLP as it is."""
    os.environ["USE_CASUAL_MASK"] = "False"  # PaddleNLP's switch that would replace the dense mask by plain causal
    with paddle_flashmask.enabled() if mask == "columns" else contextlib.nullcontext():
        yield


def make_model(task: str, folder: Path, mask: str, weights: dict | None) -> Any:
    """A model with random weights, or with those of `weights` that it has; for `lora` with new adapters around it."""
    from paddlenlp.transformers import AutoConfig, AutoModelForCausalLM

    from paddle_flashmask.integrations.paddlenlp.reward_model import reward_model_class

    config = AutoConfig.from_pretrained(str(folder), dtype="float32")
    config.use_flash_attention = mask == "columns"
    model = (reward_model_class(config) if task == "rm" else AutoModelForCausalLM).from_config(config, dtype="float32")
    if weights is not None:
        known = model.state_dict()
        model.set_state_dict({key: value for key, value in weights.items() if key in known})
    return with_adapters(model) if task == "lora" else model


def with_adapters(model: Any) -> Any:
    from paddlenlp.peft import LoRAConfig, LoRAModel
    from paddlenlp.trl.llm_utils import get_lora_target_modules

    adapted = LoRAModel(
        model, LoRAConfig(target_modules=get_lora_target_modules(model), r=8, lora_alpha=16, dtype="float32")
    )
    adapted.mark_only_lora_as_trainable()
    return adapted


def make_trainer(
    task: str, model: Any, tokenizer: Any, groups: list, dev: list, mask: str, output: Path, **options: Any
) -> Any:
    """The trainer of `paddle-flashmask train`. groups, dev: lists of packs, one list per batch."""
    from paddlenlp.trl import SFTConfig

    from paddle_flashmask.integrations.paddlenlp.dpo import PackedDPOTrainer, PackedKTOTrainer
    from paddle_flashmask.integrations.paddlenlp.reward import PackedRewardTrainer
    from paddle_flashmask.integrations.paddlenlp.trainer import PackedSFTTrainer

    callbacks = options.pop("callbacks", [])
    collate = collator(task, mask, tokenizer.pad_token_id)
    kind = SFTConfig if PACK[task] is pack_sft else AlignmentTraining
    training = kind(
        output_dir=str(output),
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=10,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        report_to=[],
        device="cpu",
        seed=42,
        **options,
    )
    common = {
        "model": model,
        "tokenizer": tokenizer,
        "args": training,
        "train_dataset": PackDataset(groups),
        "eval_dataset": PackDataset(dev) if dev else None,
        "data_collator": lambda items: collate(items[0]),
        "callbacks": callbacks,
    }
    if PACK[task] is pack_sft:
        return PackedSFTTrainer(**common)
    if task == "rm":
        return PackedRewardTrainer(loss_type="pairwise", **common)
    options = KTOOptions() if task == "kto" else DPOOptions()
    options.lora = False
    common["ref_model"] = frozen_copy(model)
    if task == "kto":
        return PackedKTOTrainer(kto_config=options, **common)
    return PackedDPOTrainer(dpo_config=options, **common)


def frozen_copy(model: Any) -> Any:
    copy = type(model).from_config(model.config, dtype="float32")
    copy.set_state_dict(model.state_dict())
    copy.eval()
    for parameter in copy.parameters():
        parameter.stop_gradient = True
    return copy


def group(rows: Sequence[dict], size: int, seed: int) -> list[list[dict]]:
    """The rows in a drawn order, `size` per step; what is left over is left out."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [[rows[i] for i in order[start : start + size]] for start in range(0, len(rows) - size + 1, size)]


def set_seed(seed: int) -> None:
    from paddlenlp.trainer import set_seed as seed_everything

    seed_everything(seed)
    paddle.seed(seed)
