"""Time of training steps on rollouts as prefix trees, as packed documents, and as a padded batch.

    PYTHONPATH=examples python -m benchmarks.training.prefix_trees    # 15 minutes; writes a CSV file and its table

Eight rollouts of one prompt share half of their tokens; packed as documents they fill one pack. The tokens and the
weights are random. The models are that of benchmarks/training/throughput.py, a deeper one, and a wider one, which is
closer to models in use in what attention and the softmax of the vocabulary take of a step. The contestants take the
same rollouts and alternate, step by step: packing, collation, forward, backward, optimizer. The first round is not
timed.
"""

from __future__ import annotations

import csv
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.collator import cpu_name

CASE = ("hidden", "layers", "pack_tokens")
FIELDS = [*CASE, "contestant", "round", "tokens", "loss", "seconds", "cpu_seconds", "threads", "cpu"]
ROLLOUTS = 8
VOCABULARY = 4000
CONTESTANTS = ("trees", "documents", "padded")
# Hidden size and layers.
MODELS = ((256, 2), (256, 8), (1024, 4))


def shape_of(hidden: int, layers: int) -> dict[str, int]:
    """The configuration of a model with the proportions of benchmarks/training/throughput.py: heads of 64."""
    from .throughput import SHAPE

    scaled = {key: value * hidden // SHAPE["hidden_size"] for key, value in SHAPE.items()}
    return {**scaled, "num_hidden_layers": layers}


def rollouts(tokens: int) -> list[dict[str, np.ndarray]]:
    """Rollouts of tokens / ROLLOUTS tokens each, half of them the prompt, which is not learned."""
    rng = np.random.default_rng(0)
    length = tokens // ROLLOUTS
    prompt = rng.integers(0, VOCABULARY, length // 2)
    rows = []
    for _ in range(ROLLOUTS):
        text = np.concatenate([prompt, rng.integers(0, VOCABULARY, length - len(prompt) + 1)])
        labels = np.where(np.arange(len(text)) < len(prompt), -100, text)
        rows.append({"input_ids": text[:-1], "labels": labels[1:]})
    return rows


def packs_of(contestant: str, rows: list[dict], tokens: int) -> list[Any]:
    from paddle_flashmask.packing import pack_sft, pack_tree

    if contestant == "trees":
        return list(pack_tree(rows, tokens))
    return list(pack_sft(rows, tokens, order="sequential" if contestant == "documents" else "single"))


def stepper(
    contestant: str, model_folder: Path, tokenizer: Any, rows: list[dict], tokens: int, output: Path
) -> Callable:
    """A function that trains one step and returns its part of FIELDS."""
    import paddle

    from . import tasks as shared

    shared.set_seed(42)
    with shared.attention("columns"):
        model = shared.make_model("sft", model_folder, "columns", None)
        model.config.flash_mask_causal = True
        trainer = shared.make_trainer(
            "sft", model, tokenizer, [packs_of(contestant, rows, tokens)], [], "columns", output, max_steps=100,
            learning_rate=1e-4, warmup_steps=0,
        )  # fmt: skip
        trainer.create_optimizer_and_scheduler(num_training_steps=100)
    collate = shared.collator("sft", "columns", tokenizer.pad_token_id)

    def step() -> dict[str, Any]:
        with shared.attention("columns"):
            started = time.perf_counter(), time.process_time()
            packs = packs_of(contestant, rows, tokens)
            batch = {key: paddle.to_tensor(value) for key, value in collate(packs).items()}
            loss = trainer.training_step(trainer.model, batch)
            trainer.optimizer.step()
            trainer.optimizer.clear_grad()
            ended = time.perf_counter(), time.process_time()
        seconds = {
            name: f"{end - start:.6f}"
            for name, start, end in zip(("seconds", "cpu_seconds"), started, ended, strict=True)
        }
        return {"tokens": sum(map(len, packs)), "loss": float(loss), **seconds}

    return step


def measure(
    folder: Path, models: tuple[tuple[int, int], ...], lengths: tuple[int, ...], rounds: int, output: Path
) -> list[dict[str, Any]]:
    from . import tasks as shared

    surroundings = {"threads": os.environ.get("OMP_NUM_THREADS", "1"), "cpu": cpu_name()}
    measured: list[dict[str, Any]] = []
    for (hidden, layers), tokens in itertools.product(models, lengths):
        model_folder = shared.prepare(folder, 24, shape_of(hidden, layers))
        tokenizer = shared.load_tokenizer(model_folder)
        rows = rollouts(tokens)
        steps = {
            contestant: stepper(contestant, model_folder, tokenizer, rows, tokens, folder / contestant)
            for contestant in CONTESTANTS
        }
        case = {"hidden": hidden, "layers": layers, "pack_tokens": tokens}
        for turn in range(rounds + 1):
            for contestant, step in steps.items():
                found = step()
                if turn:
                    measured.append({**case, "contestant": contestant, "round": turn, **found, **surroundings})
        with open(output, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(measured)
        click.echo(markdown(output).splitlines()[-1])
    return measured


def ratios_of(rows: list[dict[str, str]], ours: list[dict[str, str]], clock: str) -> list[float]:
    """The ratio of the times of each round."""
    return [float(row[clock]) / float(mine[clock]) for row, mine in zip(rows, ours, strict=True)]


def markdown(results: Path) -> str:
    """The CSV as a table: one row per model and length. Ratios are medians of the ratios within a round."""
    with results.open() as file:
        rows = list(csv.DictReader(file))
    lines = [
        "| hidden | layers | rollouts | tokens, documents | tokens, trees | ratio | x documents | x padded "
        "| x documents, CPU time | x padded, CPU time | losses differ by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(tuple(row[key] for key in CASE) for row in rows):
        mine = [row for row in rows if tuple(row[key] for key in CASE) == case]
        of = {name: [row for row in mine if row["contestant"] == name] for name in CONTESTANTS}
        tokens = {name: int(of[name][0]["tokens"]) for name in CONTESTANTS}
        ratios = [
            f"{median(ratios_of(of[name], of['trees'], clock)):.2f}"
            for clock in ("seconds", "cpu_seconds")
            for name in ("documents", "padded")
        ]
        losses = [[float(row["loss"]) for row in of[name]] for name in CONTESTANTS]
        gap = max(abs(loss - losses[0][i]) / losses[0][i] for other in losses for i, loss in enumerate(other))
        lines.append(
            f"| {case[0]} | {case[1]} | {ROLLOUTS} x {int(case[2]) // ROLLOUTS} | {tokens['documents']} | "
            f"{tokens['trees']} | {tokens['documents'] / tokens['trees']:.2f} | {' | '.join(ratios)} | {gap:.0e} |"
        )
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, type=(int, int), default=MODELS, help="Hidden size and layers.")
@click.option("--tokens", multiple=True, type=int, default=(2048, 4096, 8192), show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default="benchmarks/results/training_prefix_trees.csv")
def main(models: tuple[tuple[int, int], ...], tokens: tuple[int, ...], rounds: int, output: Path) -> None:
    from paddlenlp.utils.log import logger

    logger.set_level("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), models, tokens, rounds, output)
    output.with_suffix(".md").write_text(markdown(output) + "\n")
    click.echo(markdown(output))


if __name__ == "__main__":
    main()
