"""Runs of PaddleFormers' command line, and their inputs at toy size."""

from __future__ import annotations

import concurrent.futures
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import paddle_flashmask.integrations.paddleformers as integration

PLUGIN = str(Path(integration.__file__).with_name("plugin.py"))
STEPS = 5
WORDS = [start + end for start in ("ba", "che", "di", "fol", "gra", "hu") for end in ("ling", "mor", "ne", "pash")]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 12))) + "."


def make_folder(path: Path) -> None:
    """A tiny Llama with random weights, its tokenizer, sft.jsonl and dpo.jsonl in PaddleFormers' erniekit form."""
    from tiny_models import COMMON, LlamaConfig, LlamaForCausalLM

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


def train(folder: Path, output: Path, values: dict) -> list[float]:
    """Losses of every step, as PaddleFormers logs them, from a configuration whose model, data and output are replaced.

    A run writes into the folder of its model, and gets a copy.
    """
    folder = Path(shutil.copytree(folder, output.with_name(f"{output.name}-model")))
    data = str(folder / f"{values['stage'].lower()}.jsonl")
    places = {"model_name_or_path": str(folder), "train_dataset_path": data, "eval_dataset_path": data}
    places |= {"output_dir": str(output), "logging_dir": str(output / "logs")}
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**values, **places}))
    command = [sys.executable, "-m", "paddleformers.cli.launcher", "train", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=output.parent)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    found = [float(loss) for loss in re.findall(r"\bloss: ([\d.]+), learning_rate", done.stdout + done.stderr)]
    assert len(found) == STEPS
    return found


def both(*runs: tuple[Path, Path, dict]) -> list[list[float]]:
    """The losses of runs that take place at the same time."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(lambda run: train(*run), runs))
