"""PaddleFormers' own command line with only two keys of its configuration changed."""

from __future__ import annotations

import concurrent.futures
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import paddle_flashmask.integrations.paddleformers as integration

PLUGIN = str(Path(integration.__file__).with_name("plugin.py"))
STEPS = 5
WORDS = [start + end for start in ("ba", "che", "di", "fol", "gra", "hu") for end in ("ling", "mor", "ne", "pash")]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 12))) + "."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny Llama with random weights, its tokenizer, sft.jsonl and dpo.jsonl in PaddleFormers' erniekit form."""
    from tiny_models import COMMON, LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("model")
    rng = random.Random(2)
    sft = [{"src": [sentence(rng)], "tgt": [sentence(rng)]} for _ in range(40)]
    dpo = [
        {"src": [sentence(rng)], "tgt": [], "response": [[sentence(rng)], [sentence(rng)]], "sort": [1, 0]}
        for _ in range(20)
    ]
    for name, rows in (("sft", sft), ("dpo", dpo)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>", "<|user|>", "<|bot|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator((row[key][0] for row in sft for key in ("src", "tgt")), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}<|bot|>{{ m.content }}</s>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|bot|>{% endif %}"
    )
    fast.save_pretrained(path)

    import paddle

    paddle.seed(3)
    options = {**COMMON, "vocab_size": len(fast), "max_position_embeddings": 512}
    config = LlamaConfig(**options, fuse_rms_norm=False, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
    LlamaForCausalLM(config).save_pretrained(path)
    saved = json.loads((path / "config.json").read_text())
    saved.update(architectures=["LlamaForCausalLM"], model_type="llama", fuse_rms_norm=False)
    (path / "config.json").write_text(json.dumps(saved))
    return path


def train(folder: Path, output: Path, stage: str, implementation: str, **options) -> list[float]:
    """Losses of every step, as PaddleFormers logs them. A run writes into the folder of its model, and gets a copy."""
    folder = Path(shutil.copytree(folder, output.with_name(f"{output.name}-model")))
    data = str(folder / f"{stage.lower()}.jsonl")
    config = {
        "stage": stage,
        "custom_register_path": PLUGIN,
        "_attn_implementation": implementation,
        "model_name_or_path": str(folder),
        "train_dataset_path": data,
        "train_dataset_type": "erniekit",
        "train_dataset_prob": "1.0",
        "eval_dataset_path": data,
        "eval_dataset_type": "erniekit",
        "eval_dataset_prob": "1.0",
        "template_backend": "jinja",
        "packing": True,
        "max_seq_len": 160,
        "num_samples_each_epoch": 40,
        "max_steps": STEPS,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "do_train": True,
        "do_eval": False,
        "save_strategy": "no",
        "evaluation_strategy": "no",
        "output_dir": str(output),
        "device": "cpu",
        "bf16": False,
        "fp16_opt_level": "O1",
        "seed": 23,
        "fine_tuning": "Full",
        **options,
    }
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "paddleformers.cli.launcher", "train", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=output.parent)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    found = [float(loss) for loss in re.findall(r"\bloss: ([\d.]+), learning_rate", done.stdout + done.stderr)]
    assert len(found) == STEPS
    return found


def both(*runs: tuple) -> list[list[float]]:
    """The losses of runs that take place at the same time."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(lambda run: train(*run[:-1], **run[-1]), runs))


def test_sft(folder, tmp_path):
    ours, eager = both(
        (folder, tmp_path / "ours", "SFT", "paddle_flashmask", {}),
        (folder, tmp_path / "eager", "SFT", "eager", {}),
    )
    np.testing.assert_allclose(ours, eager, rtol=1e-5)
    assert ours[0] != pytest.approx(ours[-1], rel=1e-3)
    assert (tmp_path / "ours" / "config.json").exists()


EVALUATION = {"do_eval": True, "evaluation_strategy": "steps", "eval_steps": STEPS, "per_device_eval_batch_size": 1}
DPO = {
    "reference model": EVALUATION,
    "LoRA": {"fine_tuning": "LoRA", "lora_rank": 4},  # PaddleFormers 1.2.0 can not evaluate it without paddlefleet
}


@pytest.mark.parametrize("kind", DPO)
def test_dpo(kind, folder, tmp_path):
    """From the second step on the losses depend on the masks; in the first one policy and reference are equal."""
    options = DPO[kind]
    ours, dense = both(
        (folder, tmp_path / "ours", "DPO", "paddle_flashmask", options),
        (folder, tmp_path / "dense", "DPO", "eager", {**options, "use_attn_mask_startend_row_indices": False}),
    )
    assert ours[0] == pytest.approx(np.log(2), rel=1e-5)
    np.testing.assert_allclose(ours, dense, rtol=1e-5)


def test_a_name_that_nobody_registered_stops_the_run(folder, tmp_path):
    with pytest.raises(AssertionError, match="Invalid _attn_implementation: paddle_flashmsk"):
        train(folder, tmp_path / "misspelt", "SFT", "paddle_flashmsk")
