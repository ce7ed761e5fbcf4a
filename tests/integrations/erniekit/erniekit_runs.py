"""Runs of ERNIEKit 1.0.1's command line on a CPU, and their inputs at toy size."""

from __future__ import annotations

import concurrent.futures
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import sentencepiece
import yaml
from support.markdown import DOCS, code_blocks

# Where `make test-erniekit` installs it; the environment itself holds ERNIEKit 1.3.0, which has no such command.
ERNIEKIT = Path(sys.prefix) / "erniekit-1.0.1"
STEPS = 5
WORDS = [start + end for start in ("ba", "che", "di", "fol", "gra", "hu") for end in ("ling", "mor", "ne", "pash")]
CONFIG = {
    "model_type": "ernie4_5_moe",
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "moe_num_experts": 0,
    "tie_word_embeddings": True,
}
BEGIN, END = "<|begin_of_sentence|>", "<|end_of_sentence|>"
TOKENIZER = {
    "tokenizer_class": "Ernie4_5_Tokenizer",
    "chat_template": BEGIN + "{% for m in messages %}{% if m.role == 'user' %}User: {{ m.content }}\nAssistant: "
    "{% else %}{{ m.content }}" + END + "{% endif %}{% endfor %}",
}


def block_of_the_page(language: str) -> str:
    """The first block of a language in docs/erniekit.md: the module that enables the operator, the values for a CPU."""
    return next(block.text for block in code_blocks(DOCS / "erniekit.md") if block.language == language)


def weights() -> dict[str, paddle.Tensor]:
    """Random weights under the names of ERNIEKit's model."""
    rng = np.random.default_rng(3)
    width, inner, head = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    heads = CONFIG["num_attention_heads"] + 2 * CONFIG["num_key_value_heads"]
    matrices = {"ernie.embed_tokens": (CONFIG["vocab_size"], width)}
    norms = ["ernie.norm"]
    for layer in (f"ernie.layers.{i}" for i in range(CONFIG["num_hidden_layers"])):
        matrices[f"{layer}.self_attn.qkv_proj"] = (width, heads * head)
        matrices[f"{layer}.self_attn.o_proj"] = (width, width)
        matrices[f"{layer}.mlp.up_gate_proj"] = (width, 2 * inner)
        matrices[f"{layer}.mlp.down_proj"] = (inner, width)
        norms += [f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"]
    values = {name: 0.2 * rng.standard_normal(shape) for name, shape in matrices.items()}
    values |= {name: np.ones(width) for name in norms}
    values["lm_head"] = values["ernie.embed_tokens"]
    return {f"{name}.weight": paddle.to_tensor(value.astype("float32")) for name, value in values.items()}


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 12))) + "."


def make_folder(path: Path) -> None:
    """A tiny Ernie 4.5 with random weights, its tokenizer, sft.jsonl, dpo.jsonl, and the module that enables the
    operator."""
    rng = random.Random(2)
    sft = [{"src": [sentence(rng)], "tgt": [sentence(rng)]} for _ in range(40)]
    dpo = [
        {"src": [sentence(rng)], "tgt": [], "response": [[sentence(rng)], [sentence(rng)]], "sort": [1, 0]}
        for _ in range(40)
    ]
    for name, rows in (("sft", sft), ("dpo", dpo)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(row[key][0] for row in sft for key in ("src", "tgt")),
        model_prefix=str(path / "tokenizer"),
        model_type="bpe",
        vocab_size=120,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        control_symbols=["<cls>", "<sep>", "<mask:0>", "<mask:1>", "<mask:7>"],
        user_defined_symbols=[BEGIN, END],
        minloglevel=2,
    )
    (path / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    (path / "config.json").write_text(json.dumps(CONFIG))
    paddle.save(weights(), str(path / "model_state.pdparams"))
    (path / "sitecustomize.py").write_text(block_of_the_page("python"))


def train(folder: Path, output: Path, values: dict) -> list[float]:
    """Losses of every step and of the evaluations, as `erniekit train` logs them, from a configuration whose model,
    data and output are replaced."""
    output.mkdir()
    model = shutil.copytree(folder, output / "model")
    data = str(model / f"{values['stage'].lower()}.jsonl")
    places = {"model_name_or_path": str(model), "train_dataset_path": data, "eval_dataset_path": data}
    places |= {"output_dir": str(output / "trained"), "logging_dir": str(output / "logs")}
    file = output / "config.yaml"
    file.write_text(yaml.safe_dump({**values, **places}))
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "0",
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(model), str(ERNIEKIT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [ERNIEKIT / "bin" / "erniekit", "train", file]
    done = subprocess.run(command, capture_output=True, text=True, cwd=output, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    log = (output / "erniekit_dist_log" / "workerlog.0").read_text()
    steps = re.findall(r"\bloss: ([\d.]+), learning_rate", log)
    evaluations = re.findall(r"\beval_loss: ([\d.]+)", log)
    assert len(steps) == STEPS and evaluations
    return [float(loss) for loss in steps + evaluations]


def both(*runs: tuple[Path, Path, dict]) -> list[list[float]]:
    """The losses of runs that take place at the same time."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(lambda run: train(*run), runs))
