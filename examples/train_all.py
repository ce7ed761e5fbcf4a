"""A few steps of every task on real data: with column masks, with the dense mask, and resumed from a checkpoint.

    python examples/train_all.py                    # make train-all; writes benchmarks/results/training_all.csv
    python examples/train_all.py dpo --steps 2

A row holds the result of a run, and the differences of its losses from those of the dense mask and of the resumed run.
benchmarks/training/throughput.py measures the speed.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
from pathlib import Path

import demo
import preferences
import rollouts
from demo import OUTPUT, ROOT, run_training, say

RESULTS = ROOT / "benchmarks" / "results" / "training_all.csv"
# Folder of the configuration, and overrides.
CASES = {
    "sft": ("sft", []),
    "sft-prefix-lm": ("sft", ["--attention_mask_type", "prefix_lm_document"]),
    "lora": ("lora", []),
    "dpo": ("dpo", []),
    "dpo-lora": ("dpo", ["--lora", "true", "--lora_rank", "8"]),
    "rm": ("rm", []),
    "kto": ("kto", []),
    "policy": ("policy", []),
}
DENSE = ["--flash_mask", "false", "--use_flash_attention", "false"]
FIELDS = [
    "case",
    "steps",
    "first_loss",
    "last_loss",
    "difference_to_dense",
    "difference_when_resumed",
    "packing_efficiency",
    "mask_density",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--steps", type=int, default=4, help="training steps, an even number (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--pictures", type=Path, help="also draw the mask of one pack of every task into this folder")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(CASES)
    if unknown or arguments.steps % 2 or arguments.steps < 2:
        parser.error(
            f"cases are {', '.join(CASES)}, and steps an even number; got {arguments.cases}, {arguments.steps}"
        )

    say("Data, tokenizers, model configurations")
    rollouts.prepare(16)  # with the instructions of the demo
    preferences.prepare()
    rows = []
    for case in arguments.cases or CASES:
        rows.append(run(case, arguments.steps))
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        with open(arguments.output, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    say("\n".join(", ".join(f"{key} {value}" for key, value in row.items()) for row in rows))
    if arguments.pictures:
        draw_masks(arguments.pictures)


def run(case: str, steps: int) -> dict[str, str | int]:
    task, changes = CASES[case]
    say(f"{case}: column masks, the dense mask, and a run resumed half way")
    config = ROOT / "examples" / task / "config.json"
    options = [*changes, "--max_steps", str(steps), "--do_eval", "false", "--evaluation_strategy", "no"]
    saving = ["--save_strategy", "steps", "--save_steps", str(steps // 2), "--save_total_limit", "5"]
    folder = OUTPUT / f"{case}-all"
    columns = run_training(config, folder, [*options, *saving])
    dense = run_training(config, OUTPUT / f"{case}-all-dense", [*options, *DENSE])
    checkpoint = folder / f"checkpoint-{steps // 2}"
    resumed = run_training(
        config, OUTPUT / f"{case}-all-resumed", [*options, "--resume_from_checkpoint", str(checkpoint)]
    )
    shutil.rmtree(folder / f"checkpoint-{steps}")
    shutil.rmtree(checkpoint)
    return {
        "case": case,
        "steps": steps,
        "first_loss": f"{columns['losses'][0][1]:.6f}",
        "last_loss": f"{columns['losses'][-1][1]:.6f}",
        "difference_to_dense": f"{difference(columns['losses'], dense['losses']):.1e}",
        "difference_when_resumed": f"{difference(resumed['losses'], columns['losses'][steps // 2 :]):.1e}",
        "packing_efficiency": f"{columns['packing']['efficiency']:.4f}",
        "mask_density": f"{columns['packing']['mask_density']:.4f}",
    }


def difference(ours: list, theirs: list) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / abs(b) for (_, a), (_, b) in zip(ours, theirs, strict=True))


def draw_masks(folder: Path) -> None:
    """The mask of one pack of every task."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)  # the paths of the configurations are relative to it
    for task in ("sft", *preferences.TASKS, "policy"):
        demo.draw_mask(ROOT / "examples" / task / "config.json", folder / f"training_mask_{task}.png")


if __name__ == "__main__":
    main()
