"""Host time and memory of making one packed SFT batch: PaddleNLP's collator and ours, dense mask and columns.

    python -m benchmarks.collator                   # writes benchmarks/results/collator.csv

Each batch is one pack of eight tokenised documents, timed from documents to arrays: "paddlenlp" is PaddleNLP's
ZeroPadding._pad_batch_records and DataCollatorForSeq2Seq, "paddle_flashmask" is pack_sft and SFTCollator. Times are the
best of --repeats.
"""

from __future__ import annotations

import argparse
import csv
import functools
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from paddle_flashmask.packing import SFTCollator, pack_sft

RESULTS = Path(__file__).resolve().parent / "results" / "collator.csv"
FIELDS = ["tokens", "collator", "mask", "seconds", "batch_bytes", "paddlenlp", "cpu"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = tiny_tokenizer(Path(folder))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.output, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for tokens in arguments.tokens:
            for (collator, mask), make in collators(tokens, tokenizer).items():
                seconds, batch_bytes = measure(make, arguments.repeats)
                row = [tokens, collator, mask, f"{seconds:.6f}", batch_bytes, version("paddlenlp"), cpu_name()]
                writer.writerow(dict(zip(FIELDS, row, strict=True)))
                size = f"{batch_bytes / 2**20:7.2f} MiB"
                print(f"{tokens:>6} tokens  {collator:<16} {mask:<8} {1e3 * seconds:10.2f} ms  {size}")


def collators(tokens: int, tokenizer) -> dict[tuple[str, str], Callable[[], dict[str, np.ndarray]]]:
    """One function per collator and mask, each making the batch of the same pack."""
    from paddlenlp.data import DataCollatorForSeq2Seq
    from paddlenlp.datasets.zero_padding_dataset import ZeroPadding

    lengths = [tokens // 8] * 7 + [tokens // 16]
    ids = [np.arange(n) % 200 + 5 for n in lengths]

    def paddlenlp(mask: str) -> dict[str, np.ndarray]:
        records = []
        for i in ids:
            n = len(i)
            record = {"input_ids": i.tolist(), "labels": i.tolist(), "position_ids": list(range(n))}
            if mask == "columns":
                record["attn_mask_startend_row_indices"] = [n] * n
            else:
                record["attention_mask"] = np.tri(n, dtype=bool)
            records.append(record)
        collate = DataCollatorForSeq2Seq(
            tokenizer=tokenizer,
            max_length=tokens,
            padding="max_length",
            max_label_length=tokens,
            return_tensors="np",
            return_attention_mask=mask == "dense",
        )
        return collate([ZeroPadding._pad_batch_records(records)])

    def paddle_flashmask(mask: str) -> dict[str, np.ndarray]:
        packed = pack_sft([{"input_ids": i, "labels": i} for i in ids], tokens, order="sequential")
        return SFTCollator(tokenizer.pad_token_id, length=tokens, mask=mask)(packed)

    return {
        (make.__name__, mask): functools.partial(make, mask)
        for make in (paddlenlp, paddle_flashmask)
        for mask in ("dense", "columns")
    }


def measure(make: Callable[[], dict[str, np.ndarray]], repeats: int) -> tuple[float, int]:
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        batch = make()
        best = min(best, time.perf_counter() - started)
    return best, sum(np.asarray(value).nbytes for value in batch.values())


def tiny_tokenizer(folder: Path):
    """PaddleNLP's collator needs a tokenizer only to pad."""
    import sentencepiece
    from paddlenlp.transformers import LlamaTokenizer

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some words to train on"] * 10),
        model_prefix=str(folder / "pieces"),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    tokenizer = LlamaTokenizer(vocab_file=str(folder / "pieces.model"))
    tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def cpu_name() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
