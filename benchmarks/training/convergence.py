"""Training curves of packed batches with column masks, compared with padded batches with the dense mask.

    PYTHONPATH=examples python -m benchmarks.training.convergence

SFT, LoRA, DPO, KTO and reward models (RM) on the example data; the second reward model learns to distinguish an answer
from its words in random order. Both contestants start from the same weights and take the same samples in every step, in
the same order: packed_flashmask as one sequence, padded_dense as one batch row per document (or per question with its
two answers) through PaddleNLP's own attention. LoRA, DPO, KTO and the first RM start from the weights of the packed SFT
run. Writes training_convergence.csv with one row per step and per evaluation, a plot of all tasks and one per task.
"""

from __future__ import annotations

import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import click

FIELDS = ["task", "contestant", "kind", "step", "loss", "accuracy", "margin", "seconds", "tokens"]
CONTESTANTS = ("packed_flashmask", "padded_dense")
# The effect of rounding alone, for the task whose two runs diverge.
CONTROLS = {"rm_words": ("packed_reversed",)}
# Task, data, samples per step, tokens per sample, learning rate, whether it starts from the SFT run.
SETTINGS = {
    "sft": ("sft", "", 8, 384, 2e-3, False),
    "lora": ("lora", "", 8, 384, 2e-3, True),
    "dpo": ("dpo", "preferences", 2, 512, 2e-4, True),
    "kto": ("kto", "preferences", 4, 512, 2e-4, True),
    "rm": ("rm", "preferences", 4, 512, 3e-4, True),
    "rm_words": ("rm", "words", 8, 512, 1e-3, False),  # the SFT run has seen the answers that are held out here
}
COLOURS = {"packed_flashmask": "#1b6ca8", "padded_dense": "#e07a1f"}
LABELS = {"packed_flashmask": "packed, FlashMask", "padded_dense": "padded, dense mask"}
TITLES = {
    "sft": "SFT",
    "lora": "LoRA",
    "dpo": "DPO",
    "kto": "KTO",
    "rm": "RM: preferences",
    "rm_words": "RM: word order",
}
SMOOTHING = 20
# Names that the trainers log, of reward models and of DPO and KTO.
ACCURACY = ("accuracy", "rewards/accuracies")
MARGIN = ("margin", "rewards/margins")


def run_all(
    folder: Path, steps: int, eval_steps: int, dev_pairs: int, names: tuple[str, ...], output: Path
) -> list[dict[str, Any]]:
    """Run the tasks in `names` and return the rows of `output`, which keeps the rows of other tasks.

    The file is written after every run. The packed SFT run is made for its weights if another task starts from them.
    """
    from . import tasks as shared

    model_folder = shared.prepare(folder, dev_pairs)
    tokenizer = shared.load_tokenizer(model_folder)
    rows = [row for row in read(output) if row["task"] not in names]
    weights = None
    from_sft = any(SETTINGS[name][-1] for name in names)
    for name, (task, data, size, max_length, learning_rate, goes_on) in SETTINGS.items():
        if name not in names and not (name == "sft" and from_sft):
            continue
        contestants = CONTESTANTS + CONTROLS.get(name, ()) if name in names else CONTESTANTS[:1]
        samples = shared.load_samples(task, folder, tokenizer, max_length, data)
        groups = shared.group(samples.train, size, seed=0)
        for contestant in contestants:
            started = time.perf_counter()
            layout, mask = shared.CONTESTANTS[contestant]
            lay_out = shared.LAYOUTS[layout]
            result, trained = train(
                task,
                model_folder,
                mask,
                weights if goes_on else None,
                [lay_out(task, g, max_length) for g in groups],
                [lay_out(task, [row], max_length) for row in samples.dev],
                tokenizer,
                folder / f"{name}-{contestant}",
                max_steps=steps,
                eval_steps=eval_steps,
                learning_rate=learning_rate,
            )
            if name in names:
                rows += as_rows(name, contestant, result)
                write(rows, output)
            if (name, contestant) == ("sft", CONTESTANTS[0]):
                weights = trained
            click.echo(f"{name} {contestant}: {time.perf_counter() - started:.0f} s")
    return rows


def train(
    task: str,
    model_folder: Path,
    mask: str,
    weights: dict | None,
    groups: list,
    dev: list,
    tokenizer: Any,
    output: Path,
    eval_steps: int,
    **options: Any,
) -> tuple[Any, dict]:
    """Train once. Returns (the log, the final weights)."""
    from paddle_flashmask.integrations.paddlenlp.progress import ProgressLines

    from . import tasks as shared

    shared.set_seed(42)
    progress = ProgressLines(lambda line: None)
    evaluation = {"evaluation_strategy": "steps", "eval_steps": eval_steps} if dev else {"evaluation_strategy": "no"}
    with shared.attention(mask):
        model = shared.make_model(task, model_folder, mask, weights)
        trainer = shared.make_trainer(
            task,
            model,
            tokenizer,
            groups,
            dev,
            mask,
            output,
            callbacks=[progress],
            **options,
            **evaluation,
        )
        if dev:
            trainer.evaluate()
        trainer.train()
    return progress, {key: value.clone() for key, value in trainer.model.state_dict().items()}


def as_rows(name: str, contestant: str, progress: Any) -> list[dict[str, Any]]:
    rows = []
    for kind, logs, prefix in (("train", progress.metrics, ""), ("eval", progress.evaluations, "eval_")):
        for number, log in enumerate(logs):
            values = [
                name,
                contestant,
                kind,
                log["step"],
                log[f"{prefix}loss"],
                *(log.get(prefix + keys[0], log.get(prefix + keys[1], "")) for keys in (ACCURACY, MARGIN)),
            ]
            values += [progress.step_seconds[number], progress.tokens] if kind == "train" else ["", ""]
            rows.append(dict(zip(FIELDS, [f"{v:.7g}" if isinstance(v, float) else v for v in values], strict=True)))
    return rows


def curve(rows: list[dict[str, Any]], task: str, contestant: str, kind: str, column: str) -> list[tuple[int, float]]:
    found = [r for r in rows if (r["task"], r["contestant"], r["kind"]) == (task, contestant, kind) and r[column] != ""]
    return [(int(r["step"]), float(r[column])) for r in found]


def smooth(values: list[float]) -> list[float]:
    """Mean of the last SMOOTHING values."""
    windows = [values[max(0, i + 1 - SMOOTHING) : i + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot losses, and below them reward margins in training and held-out accuracies of the tasks that have them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(r["task"] for r in rows))
    lines = [("loss", "loss, dashed: held out"), ("margin", "reward margin"), ("accuracy", "held-out accuracy")]
    lines = [line for line in lines if any(r[line[0]] != "" for r in rows)]
    figure = Figure(figsize=(3.6 * len(tasks), 2.5 * len(lines)), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(lines), len(tasks), squeeze=False, sharex="col")
    for row, (column, name) in enumerate(lines):
        for axes, task in zip(grid[row], tasks, strict=True):
            for contestant, width in (("padded_dense", 4), ("packed_flashmask", 1.4)):
                style = {"color": COLOURS[contestant], "linewidth": width}
                trained = curve(rows, task, contestant, "train", column)
                held_out = curve(rows, task, contestant, "eval", column)
                if trained and column != "accuracy":
                    steps, values = zip(*trained, strict=True)
                    axes.plot(steps, smooth(list(values)), label=LABELS[contestant], **style)
                if held_out and column != "margin":
                    axes.plot(*zip(*held_out, strict=True), linestyle="--", **style)
            if not axes.lines:
                axes.axis("off")
        next((axes for axes in grid[row] if axes.lines), grid[row][0]).set_ylabel(name)
    for axes, task in zip(grid[0], tasks, strict=True):
        axes.set_title(TITLES[task])
    for column in grid.T:
        lowest = [axes for axes in column if axes.lines][-1]
        lowest.set_xlabel("step")
        lowest.tick_params(labelbottom=True)
    grid[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| task | batches | loss, first {SMOOTHING} steps | loss, last {SMOOTHING} steps "
        f"| held-out loss, start -> end | held-out accuracy, start -> end |",
        "|---|---|---|---|---|---|",
    ]
    for task in dict.fromkeys(r["task"] for r in rows):
        for contestant in CONTESTANTS:
            losses = [loss for _, loss in curve(rows, task, contestant, "train", "loss")]
            cells = [
                TITLES[task],
                LABELS[contestant],
                f"{mean(losses[:SMOOTHING]):.4f}",
                f"{mean(losses[-SMOOTHING:]):.4f}",
            ]
            for column, form in (("loss", ".4f"), ("accuracy", ".1%")):
                points = curve(rows, task, contestant, "eval", column)
                cells.append(f"{points[0][1]:{form}} -> {points[-1][1]:{form}}" if points else "-")
            lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for task in dict.fromkeys(r["task"] for r in rows):
        ours, theirs = (curve(rows, task, contestant, "train", "loss") for contestant in CONTESTANTS)
        apart = [abs(a - b) / max(abs(b), 1e-9) for (_, a), (_, b) in zip(ours, theirs, strict=True)]
        lines.append(
            f"{TITLES[task]}: relative difference of the two losses {apart[0]:.1e} in step 1, at most "
            f"{max(apart[:10]):.1e} in the first 10 steps, median {sorted(apart)[len(apart) // 2]:.1e}, "
            f"largest {max(apart):.1e}"
        )
    return "\n".join(lines)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(rows: list[dict[str, Any]], path: Path) -> None:
    rows = sorted(rows, key=lambda row: list(SETTINGS).index(row["task"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)


@click.command(help=__doc__)
@click.option("--steps", default=300, show_default=True)
@click.option("--eval-steps", default=50, show_default=True)
@click.option(
    "--dev-pairs",
    default=100,
    show_default=True,
    help="Held-out preference pairs, half as many as word-order pairs.",
)
@click.option(
    "--tasks", default=",".join(SETTINGS), show_default=True, help="Other tasks keep their rows in the output file."
)
@click.option("--output", type=click.Path(path_type=Path), default="benchmarks/results/training_convergence.csv")
@click.option("--plots", type=click.Path(path_type=Path), default="docs/images", help="Folder of the plots.")
def main(steps: int, eval_steps: int, dev_pairs: int, tasks: str, output: Path, plots: Path) -> None:
    from paddlenlp.utils.log import logger

    logger.set_level("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        run_all(Path(folder), steps, eval_steps, dev_pairs, tuple(tasks.split(",")), output)
    rows = read(output)
    plot(rows, plots / "training_convergence.png")
    for page in dict.fromkeys(SETTINGS[r["task"]][0] for r in rows):
        plot([r for r in rows if SETTINGS[r["task"]][0] == page], plots / f"training_curves_{page}.png")
    click.echo(markdown(rows))


if __name__ == "__main__":
    main()
