"""Packed fine-tuning end to end: real instructions, a small Llama, column masks and the dense mask, two pictures.

    python examples/demo.py                 # writes demo-output/
    python examples/demo.py --data FOLDER   # your own train.json

The training itself is a single command: `paddle-flashmask train examples/sft/config.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "demo-output"
CONFIG = ROOT / "examples" / "sft" / "config.json"
SUMMARY = "training_summary.json"
# Read before Paddle is imported here, because that sets it to 1.
THREADS = os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with train.json instead of the downloaded instructions")
    parser.add_argument("--steps", type=int, help="training steps (default: those of the configuration)")
    arguments = parser.parse_args()
    started = time.perf_counter()

    say("1. Data, tokenizer, model configuration")
    data = prepare(arguments.data)
    overrides = ["--dataset_name_or_path", shown(data)]
    if arguments.steps:
        overrides += ["--max_steps", str(arguments.steps)]

    say("2. Training with column masks (FlashMask)")
    columns = train("flashmask", overrides)
    say("3. The same steps with PaddleNLP's own dense mask; the operator is not enabled")
    dense = train("dense", [*overrides, "--flash_mask", "false", "--use_flash_attention", "false"])

    say("4. What was measured")
    report(columns, dense)
    draw_losses(columns, dense, OUTPUT / "losses.png")
    os.chdir(ROOT)  # the paths of the configuration are relative to it
    draw_mask(CONFIG, OUTPUT / "mask.png", overrides)
    print(f"pictures: {shown(OUTPUT / 'losses.png')}, {shown(OUTPUT / 'mask.png')}")
    print(f"total time: {time.perf_counter() - started:.0f} s")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def prepare(own_data: Path | None) -> Path:
    from paddlenlp.utils.log import logger
    from sft.prepare import PrepareError, download_instructions, make_model, write_rows

    logger.set_level("WARNING")
    data = own_data.resolve() if own_data else OUTPUT / "data"
    try:
        if own_data is None:
            downloads = OUTPUT / "downloads"
            downloads.mkdir(parents=True, exist_ok=True)
            rows = download_instructions(downloads)
            write_rows(data / "train.json", rows)
            print(f"{len(rows)} instructions in {shown(data / 'train.json')}")
        elif not (data / "train.json").is_file():
            raise PrepareError(f"there is no {data / 'train.json'}")
        make_model(OUTPUT / "model", data / "train.json")
    except PrepareError as error:
        sys.exit(f"demo: {error}")
    print(f"tokenizer and model configuration in {shown(OUTPUT / 'model')}", flush=True)
    return data


def train(name: str, overrides: list[str]) -> dict:
    return run_training(CONFIG, OUTPUT / name, overrides)


def run_training(config: Path, output: Path, overrides: list[str]) -> dict:
    command = [sys.executable, "-W", "ignore", "-c", "from paddle_flashmask.cli import main; main()"]
    words = ["train", str(config.relative_to(ROOT)), "--output_dir", str(output.relative_to(ROOT)), *overrides]
    print(f"$ OMP_NUM_THREADS={THREADS} paddle-flashmask", *words, flush=True)
    done = subprocess.run([*command, *words], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": THREADS})
    if done.returncode:
        sys.exit(f"demo: training failed with exit status {done.returncode}")
    return json.loads((output / SUMMARY).read_text(encoding="utf-8"))


def report(columns: dict, dense: dict) -> None:
    packing = columns["packing"]
    print(f"tokens packed            {packing['tokens']:,} in {packing['packs']} packs of {packing['max_length']}")
    print(f"packing efficiency       {packing['efficiency']:.1%}")
    print(f"documents per pack       {packing['documents_per_pack']:.1f}")
    print(f"mask density             {packing['mask_density']:.1%} of all query-key pairs")
    for name, run in (("column masks", columns), ("dense mask", dense)):
        tokens_per_step = run["tokens"] / len(run["step_seconds"])
        seconds = median(run["step_seconds"])
        print(
            f"{name:<24} {tokens_per_step / seconds:,.0f} tokens/s, {seconds:.3f} s per step (median), "
            f"last loss {run['losses'][-1][1]:.6f}"
        )
    ratio = median(dense["step_seconds"]) / median(columns["step_seconds"])
    print(f"dense time / column time {ratio:.2f} (whole training steps, same collator)")
    worst = max(abs(a - b) / abs(b) for (_, a), (_, b) in zip(columns["losses"], dense["losses"], strict=True))
    print(f"largest loss difference  {worst:.1e} relative over {len(columns['losses'])} steps")


def draw_losses(columns: dict, dense: dict, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(*zip(*dense["losses"], strict=True), color="#f2a93b", linewidth=5, label="dense mask")
    axes.plot(*zip(*columns["losses"], strict=True), color="#2563a8", linewidth=1.5, label="column mask")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    axes.set_title("Packed fine-tuning: the same losses with either mask")
    axes.legend()
    figure.savefig(path)


def packs_of(config: Path, overrides: Sequence[str] = ()) -> tuple[Any, int, Any]:
    """The task of a configuration, the tokens that a pack may have, and the packs of its training data."""
    from paddle_flashmask.integrations.paddlenlp.config.values import read_values
    from paddle_flashmask.integrations.paddlenlp.loading import load_tokenizer
    from paddle_flashmask.integrations.paddlenlp.tasks import task_of

    values = read_values(config, overrides)
    task, _ = task_of(values, config.stem)
    arguments = task.arguments(values)
    rows = task.rows(arguments, load_tokenizer(arguments), "train")
    return task, task.max_length(arguments), task.packs(arguments, rows, lazy=False).packs


def draw_mask(config: Path, path: Path, overrides: Sequence[str] = ()) -> None:
    """The mask of a typical pack of a configuration: one with a median number of documents or sequences."""
    from paddle_flashmask.masks import ColumnMask

    task, size, packs = packs_of(config, overrides)
    typical = sorted(packs, key=lambda pack: getattr(pack, "sequences", len(pack.document_lengths)))[len(packs) // 2]
    columns = task.collator_class(pad_token_id=0, length=size)([typical])["startend_row_indices"]
    content = f"{len(typical.document_lengths)} documents"
    if hasattr(typical, "answers"):
        content = f"{len(typical.document_lengths)} questions, {len(typical.answers)} answers"
    elif hasattr(typical, "sequences"):
        content = f"{typical.sequences} sequences that share prefixes"
    ColumnMask(columns, causal=True, seqlen_q=size).plot(path, title=f"{content} in {size} tokens")


if __name__ == "__main__":
    main()
