"""Predicted steps of Llama 3 8B and 70B on 8 to 1024 GPUs for every mask.

    python -m benchmarks.scaling.plans    # writes benchmarks/results/scaling_plans.csv and .md from scaling_counts.csv

Options change the machine. Predictions, not measurements: nothing here ran on a GPU.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import click

from . import counts
from .machines import H100, NODE, Machine
from .models import LLAMA_8B, LLAMA_70B, MODELS, Model
from .step import Plan, Step, predict

RESULTS = counts.RESULTS.with_name("scaling_plans.csv")
RANKS = (8, 64, 256, 1024)
TENSOR = {LLAMA_8B: 1, LLAMA_70B: NODE}
_SECONDS = ("products", "attention", "keys", "tensor", "gradients", "overlapped", "serial")
FIELDS = (
    ("model", "seqlen", "mask", "rows", "ranks", "tensor", "context", "data", "memory_gb", "fits")
    + tuple(f"{name}_s" for name in _SECONDS)
    + ("keys_gb", "efficiency", "bound")
)


def plans(model: Model, seqlen: int) -> Iterator[Plan]:
    """Yield the plans of every number of ranks and of every context degree that was counted."""
    for ranks in RANKS:
        for context in counts.RANKS:
            if ranks % (TENSOR[model] * context) == 0:
                yield Plan(model, seqlen, TENSOR[model], context, ranks // (TENSOR[model] * context))


def rows(machine: Machine, counted: Path = counts.RESULTS) -> Iterator[dict[str, str]]:
    """Yield the rows of the CSV file."""
    found = counts.load(counted)
    names, seqlens = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
    for model in MODELS:
        for seqlen in seqlens:
            for plan in plans(model, seqlen):
                for mask in names:
                    for way in counts.SHARES:
                        step = predict(plan, found[mask, seqlen, plan.context, way], machine)
                        yield _row(plan, mask, way, step, machine)


def _row(plan: Plan, mask: str, way: str, step: Step, machine: Machine) -> dict[str, str]:
    cells = (plan.model.name, plan.seqlen, mask, way, plan.ranks, plan.tensor, plan.context, plan.data)
    cells += (f"{plan.bytes / 1e9:.1f}", "yes" if plan.bytes <= machine.memory else "no")
    cells += tuple(f"{getattr(step, name):.3g}" for name in _SECONDS)
    cells += (f"{step.bytes_keys / 1e9:.3g}", f"{step.efficiency:.3f}", step.bound)
    return dict(zip(FIELDS, map(str, cells), strict=True))


def markdown(results: Path = RESULTS) -> str:
    """Best plan by overlapped time that fits, for every model, length, mask and number of ranks."""
    with results.open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    parts = []
    for model, seqlen in dict.fromkeys((row["model"], row["seqlen"]) for row in table):
        chosen = [row for row in table if (row["model"], row["seqlen"]) == (model, seqlen)]
        tensor, ranks = chosen[0]["tensor"], list(dict.fromkeys(row["ranks"] for row in chosen))
        lines = [
            f"{model}, {int(seqlen):,} rows, tensor degree {tensor}: context degree and rows; seconds with and without "
            "overlap; efficiency; bound",
            "",
            f"| mask | {' | '.join(f'{number} GPUs' for number in ranks)} |",
            f"|---|{'---|' * len(ranks)}",
        ]
        for mask in dict.fromkeys(row["mask"] for row in chosen):
            options = [[row for row in chosen if (row["mask"], row["ranks"]) == (mask, number)] for number in ranks]
            lines.append(f"| {mask} | {' | '.join(_cell(best(rows)) for rows in options)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def best(options: list[dict[str, str]]) -> dict[str, str] | None:
    """Return the row of the most efficient plan that fits, of equal ones the first; None if none fits."""
    fitting = [row for row in options if row["fits"] == "yes"]
    return max(fitting, key=lambda row: float(row["efficiency"]), default=None)


def _cell(row: dict[str, str] | None) -> str:
    if row is None:
        return "does not fit"
    return (
        f"{row['context']} {row['rows']}; {float(row['overlapped_s']):.3g} / {float(row['serial_s']):.3g}; "
        f"{float(row['efficiency']):.2f}; {row['bound']}"
    )


SUMMARY = (("Llama 3 8B", "8"), ("Llama 3 8B", "64"), ("Llama 3 70B", "64"))


def summary(results: Path = RESULTS, seqlen: str = "131072") -> str:
    """`share_rows` for SUMMARY with the least context degree that fits: memory, GB of keys, seconds, efficiency."""
    with results.open(encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file) if (row["seqlen"], row["rows"]) == (seqlen, "share_rows")]
    columns = []
    for model, ranks in SUMMARY:
        fitting = [row for row in table if (row["model"], row["ranks"], row["fits"]) == (model, ranks, "yes")]
        context = min((int(row["context"]) for row in fitting), default=0)
        columns.append([row for row in fitting if int(row["context"]) == context])
    heads = [f"{rows[0]['model']}, {ranks} GPUs" for rows, (_, ranks) in zip(columns, SUMMARY, strict=True)]
    lines = [f"| mask | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    divided = (f"{r[0]['tensor']} x {r[0]['context']} x {r[0]['data']}, {r[0]['memory_gb']} GB" for r in columns)
    lines.append(f"| tensor x context x data, memory | {' | '.join(divided)} |")
    for cells in zip(*columns, strict=True):
        shown = (
            f"{float(row['keys_gb']):.1f} GB; {float(row['overlapped_s']):.1f} s; {float(row['efficiency']):.2f}; "
            f"{row['bound']}"
            for row in cells
        )
        lines.append(f"| {cells[0]['mask']} | {' | '.join(shown)} |")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--matmul-tflops", default=H100.matmul / 1e12, show_default=True)
@click.option("--attention-tflops", type=(float, float), default=tuple(rate / 1e12 for rate in H100.attention))
@click.option("--near-gbs", default=H100.near / 1e9, show_default=True, help="GB/s per direction within a node.")
@click.option("--far-gbs", default=H100.far / 1e9, show_default=True, help="GB/s per direction between nodes.")
@click.option("--message-us", default=H100.message * 1e6, show_default=True)
@click.option("--memory-gb", default=H100.memory / 1e9, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS)
def main(
    matmul_tflops: float,
    attention_tflops: tuple[float, float],
    near_gbs: float,
    far_gbs: float,
    message_us: float,
    memory_gb: float,
    output: Path,
) -> None:
    machine = dataclasses.replace(
        H100,
        matmul=matmul_tflops * 1e12,
        attention=(attention_tflops[0] * 1e12, attention_tflops[1] * 1e12),
        near=near_gbs * 1e9,
        far=far_gbs * 1e9,
        message=message_us * 1e-6,
        memory=memory_gb * 1e9,
    )
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows(machine))
    output.with_suffix(".md").write_text(markdown(output) + "\n")


if __name__ == "__main__":
    main()
