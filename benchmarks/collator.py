"""Host time and memory of one packed batch: PaddleNLP's collator and ours, with a dense mask and with columns.

    python -m benchmarks.collator                   # writes benchmarks/results/collator.csv and collator.md

Each batch is one pack, timed from token ids to arrays; times are the best of --repeats. `sft` has eight documents, with
PaddleNLP's ZeroPadding._pad_batch_records and DataCollatorForSeq2Seq, or pack_sft and SFTCollator. `preference` has
four prompts with two answers each, with _pad_batch_records and preference_collate_fn, or pack_preference and
PreferenceCollator.
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

from paddle_flashmask.packing import PreferenceCollator, SFTCollator, pack_preference, pack_sft

RESULTS = Path(__file__).resolve().parent / "results" / "collator.csv"
FIELDS = ["task", "tokens", "collator", "mask", "seconds", "batch_bytes", "paddlenlp", "cpu"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = tiny_tokenizer(Path(folder))
    surroundings = [version("paddlenlp"), cpu_name()]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with open(arguments.output, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for task, contestants in (("sft", sft), ("preference", preference)):
            for tokens in arguments.tokens:
                for (collator, mask), make in contestants(tokens, tokenizer).items():
                    seconds, batch_bytes = measure(make, arguments.repeats)
                    row = [task, tokens, collator, mask, f"{seconds:.6f}", batch_bytes, *surroundings]
                    writer.writerow(dict(zip(FIELDS, row, strict=True)))
                    size = f"{batch_bytes / 2**20:7.2f} MiB"
                    print(f"{task:<11}{tokens:>6} tokens  {collator:<16} {mask:<8} {1e3 * seconds:10.2f} ms  {size}")
    arguments.output.with_suffix(".md").write_text(markdown(arguments.output) + "\n")


def markdown(results: Path) -> str:
    """The CSV as a table: one row per task and length, one column per collator and mask."""
    with results.open() as file:
        rows = list(csv.DictReader(file))
    columns = list(dict.fromkeys((row["collator"], row["mask"]) for row in rows))
    cells: dict[tuple[str, str], list[str]] = {}  # in the order of the columns
    for row in rows:
        cost = f"{1e3 * float(row['seconds']):.2f} ms, {int(row['batch_bytes']) / 1e6:.2f} MB"
        cells.setdefault((row["task"], row["tokens"]), []).append(cost)
    lines = ["| task | tokens | " + " | ".join(map(", ".join, columns)) + " |", "|---|---|" + "---|" * len(columns)]
    lines += ["| " + " | ".join([*batch, *costs]) + " |" for batch, costs in cells.items()]
    return "\n".join(lines)


Contestants = dict[tuple[str, str], Callable[[], dict[str, np.ndarray]]]


def with_both_masks(*makers: Callable[[str], dict[str, np.ndarray]]) -> Contestants:
    """Functions by collator and mask, which make a batch of the same pack."""
    return {(make.__name__, mask): functools.partial(make, mask) for make in makers for mask in ("dense", "columns")}


def sft(tokens: int, tokenizer) -> Contestants:
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

    return with_both_masks(paddlenlp, paddle_flashmask)


def preference(tokens: int, tokenizer) -> Contestants:
    from paddlenlp.datasets.zero_padding_dataset import ZeroPadding
    from paddlenlp.trl.trl_data import preference_collate_fn

    # Each row has tokens // 4 tokens, half of them the prompt. Both answers start from the prompt's last token.
    shared, answer = tokens // 8, tokens // 16
    prompt_ids, answer_ids = (np.arange(n) % 200 + 5 for n in (shared + 1, answer))

    def paddlenlp(mask: str) -> dict[str, np.ndarray]:
        records = [preference_record(prompt_ids.tolist(), answer_ids.tolist(), mask) for _ in range(4)]
        return preference_collate_fn([ZeroPadding._pad_batch_records(records)], max_seq_len=tokens)

    def paddle_flashmask(mask: str) -> dict[str, np.ndarray]:
        rows = [{"prompt": prompt_ids, "chosen": answer_ids, "rejected": answer_ids} for _ in range(4)]
        packed = pack_preference(rows, tokens, order="sequential")
        return PreferenceCollator(tokenizer.pad_token_id, length=tokens, mask=mask)(packed)

    return with_both_masks(paddlenlp, paddle_flashmask)


def preference_record(prompt: list[int], answer: list[int], mask: str) -> dict:
    """One row as PaddleNLP's DPO preprocessing passes it to packing; both answers are `answer`."""
    shared, n = len(prompt) - 1, len(answer)
    shown = prompt[-1:] + answer[:-1]
    total = shared + 2 * n
    record = {
        "input_ids": prompt[:-1] + shown + shown,
        "position_ids": list(range(shared + n)) + list(range(shared, shared + n)),
        "response_0_labels": [0] * shared + answer + [0] * n,
        "response_1_labels": [0] * (shared + n) + answer,
        "response_indexs": [shared, shared + n, total, 1],
    }
    if mask == "columns":
        record["attn_mask_startend_row_indices"] = [total] * shared + [shared + n] * n + [total] * n
    else:
        visible = np.tri(total, dtype=bool)
        visible[shared + n :, shared : shared + n] = False
        record["attention_mask"] = visible
    return record


def measure(make: Callable[[], dict[str, np.ndarray]], repeats: int) -> tuple[float, int]:
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        batch = make()
        best = min(best, time.perf_counter() - started)
    return best, sum(np.asarray(value).nbytes for value in batch.values())


def tiny_tokenizer(folder: Path):
    """Tokenizer for PaddleNLP's SFT collator, which uses it for padding only."""
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
