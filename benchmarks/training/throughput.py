"""Time of training steps on packed batches with column masks, with the dense mask, and on padded batches.

    PYTHONPATH=examples python -m benchmarks.training.throughput    # half an hour; writes a CSV file and its plot

SFT, LoRA, DPO and KTO (with a reference model) and a reward model (RM) on the example data. For each length, samples
are drawn until their pack is full. All contestants take the same samples: packed_flashmask and packed_dense as that one
sequence, padded_dense as one batch row per document (or per question with its two answers). They alternate, step by
step: collation, forward, backward, optimizer. The first round is not timed.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

FIELDS = ["task", "pack_tokens", "contestant", "round", "tokens", "rows", "row_length", "collate_seconds", "seconds"]
CONTESTANTS = ("packed_flashmask", "packed_dense", "padded_dense")
COLOURS = {"packed_dense": "#e07a1f", "padded_dense": "#8a8a8a"}
LABELS = {"packed_dense": "than packed, dense mask", "padded_dense": "than padded, dense mask"}
TITLES = {"sft": "SFT", "lora": "LoRA", "dpo": "DPO", "rm": "reward model", "kto": "KTO"}
# Heads of 64. Two layers only, because the dense mask keeps all scores: 4 heads of 8192 x 8192 are 1 GiB.
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def full_pack(task: str, rows: list[dict], tokens: int, seed: int) -> list[dict]:
    """Rows in random order that together fit one pack of `tokens`."""
    from . import tasks as shared

    chosen: list[dict] = []
    used = 0
    for i in np.random.default_rng(seed).permutation(len(rows)):
        (alone,) = shared.documents(task, [rows[i]], tokens)
        if used + len(alone) <= tokens:
            used += len(alone)
            chosen.append(rows[i])
    return chosen


def stepper(
    task: str, contestant: str, model_folder: Path, tokenizer: Any, rows: list[dict], tokens: int, output: Path
) -> Callable[[], dict[str, float]]:
    """A function that trains one step and returns its part of FIELDS."""
    from . import tasks as shared

    layout, mask = shared.CONTESTANTS[contestant]
    packs = shared.LAYOUTS[layout](task, rows, tokens)
    shared.set_seed(42)
    with shared.attention(mask):
        model = shared.make_model(task, model_folder, mask, None)
        trainer = shared.make_trainer(
            task, model, tokenizer, [packs], [], mask, output, max_steps=100, learning_rate=1e-4
        )
        trainer.create_optimizer_and_scheduler(num_training_steps=100)
    collate = shared.collator(task, mask, tokenizer.pad_token_id)

    def step() -> dict[str, float]:
        import paddle

        with shared.attention(mask):
            started = time.perf_counter()
            batch = collate(packs)
            collated = time.perf_counter()
            trainer.training_step(trainer.model, {key: paddle.to_tensor(value) for key, value in batch.items()})
            trainer.optimizer.step()
            trainer.optimizer.clear_grad()
            ended = time.perf_counter()
        return {
            "tokens": sum(map(len, packs)),
            "rows": batch["input_ids"].shape[0],
            "row_length": batch["input_ids"].shape[1],
            "collate_seconds": collated - started,
            "seconds": ended - started,
        }

    return step


def measure(folder: Path, lengths: tuple[int, ...], rounds: int, output: Path) -> list[dict[str, Any]]:
    from . import tasks as shared

    model_folder = shared.prepare(folder, 24, SHAPE)
    tokenizer = shared.load_tokenizer(model_folder)
    measured: list[dict[str, Any]] = []
    for tokens in lengths:
        for task in shared.TASKS:
            rows = full_pack(task, shared.load_samples(task, folder, tokenizer, tokens).train, tokens, seed=1)
            steps = {
                contestant: stepper(task, contestant, model_folder, tokenizer, rows, tokens, folder / contestant)
                for contestant in CONTESTANTS
            }
            for turn in range(rounds + 1):
                for contestant, step in steps.items():
                    found = step()
                    if turn:
                        measured.append(
                            {"task": task, "pack_tokens": tokens, "contestant": contestant, "round": turn, **found}
                        )
            write(measured, output)
            click.echo(" ".join(line for line in table(measured)[-1:]))
    return measured


def write(rows: list[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def ratios(rows: list[dict[str, Any]], task: str, tokens: int, contestant: str) -> list[float]:
    """How many times longer than packed_flashmask the contestant took in each round."""

    def seconds(name: str) -> list[float]:
        chosen = [r for r in rows if (r["task"], r["pack_tokens"], r["contestant"]) == (task, tokens, name)]
        return [r["seconds"] for r in sorted(chosen, key=lambda r: r["round"])]

    return [theirs / ours for ours, theirs in zip(seconds("packed_flashmask"), seconds(contestant), strict=True)]


def table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| task | pack | documents | padded batch | tokens/s | x packed, dense mask | x padded, dense mask "
        "| collation, columns | collation, dense mask |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task, tokens in dict.fromkeys((r["task"], r["pack_tokens"]) for r in rows):
        of = {
            name: [r for r in rows if (r["task"], r["pack_tokens"], r["contestant"]) == (task, tokens, name)]
            for name in CONTESTANTS
        }
        ours, padded = of["packed_flashmask"], of["padded_dense"][0]
        collation = [median(r["collate_seconds"] for r in of[name]) for name in ("packed_flashmask", "packed_dense")]
        cells = [
            TITLES[task],
            str(ours[0]["tokens"]),
            str(padded["rows"]),
            f"{padded['rows']} x {padded['row_length']}",
            f"{ours[0]['tokens'] / median(r['seconds'] for r in ours):,.0f}",
            *(f"{median(ratios(rows, task, tokens, name)):.2f}" for name in CONTESTANTS[1:]),
            *(f"{1e3 * seconds:.1f} ms" for seconds in collation),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(r["task"] for r in rows))
    lengths = sorted({r["pack_tokens"] for r in rows})
    figure = Figure(figsize=(3.2 * len(tasks), 3.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0], tasks, strict=True):
        measured = [i for i, tokens in enumerate(lengths) if ratios(rows, task, tokens, CONTESTANTS[1])]
        for shift, contestant in enumerate(CONTESTANTS[1:]):
            places = [i + 0.38 * shift for i in measured]
            heights = [median(ratios(rows, task, lengths[i], contestant)) for i in measured]
            bars = axes.bar(places, heights, width=0.36, color=COLOURS[contestant], label=LABELS[contestant])
            axes.bar_label(bars, fmt="%.1f", fontsize=7)
        axes.axhline(1, color="black", linewidth=0.6)
        axes.set_xticks([i + 0.19 for i in range(len(lengths))], [str(tokens) for tokens in lengths])
        axes.set_title(TITLES[task])
        axes.set_xlabel("tokens in a pack")
    figure.axes[0].set_ylabel("times faster: packed, FlashMask")
    figure.axes[0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


@click.command(help=__doc__)
@click.option("--tokens", multiple=True, type=int, default=(2048, 4096, 8192), show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default="benchmarks/results/training_throughput.csv")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), default="docs/images/training_throughput.png")
def main(tokens: tuple[int, ...], rounds: int, output: Path, plot_path: Path) -> None:
    from paddlenlp.utils.log import logger

    logger.set_level("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), tokens, rounds, output)
    plot(rows, plot_path)
    click.echo("\n".join(table(rows)))


if __name__ == "__main__":
    main()
