"""Policy gradients on rollouts of two rounds, eight per prompt: as prefix trees, as packed documents, and padded.

    python examples/rollouts.py                     # a minute or two on one core; writes demo-output/
    python examples/rollouts.py --prompts 16 --steps 8

Instructions and answers are real; examples/policy/prepare.py states how rollouts are made of them. Every step takes all
rollouts, so that the three runs take the same steps. The training itself is a single command:
`paddle-flashmask train examples/policy/config.json`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median

import demo
from demo import OUTPUT, ROOT, run_training, say, shown
from policy.prepare import ROLLOUTS, rollout_rows
from sft.prepare import read_rows, write_rows

CONFIG = ROOT / "examples" / "policy" / "config.json"
DOCUMENTS = ["--share_prefixes", "false"]
PADDED = [
    *DOCUMENTS,
    *("--zero_padding", "false", "--greedy_zero_padding", "false"),
    *("--flash_mask", "false", "--use_flash_attention", "false"),
    *("--per_device_train_batch_size", str(ROLLOUTS)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4, help="instructions (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="training steps, at least 2 (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.prompts < 1 or arguments.steps < 2:
        parser.error("at least one prompt and two steps")

    say("Data, tokenizer, model configuration")
    prepare(arguments.prompts)
    steps = ["--max_steps", str(arguments.steps)]
    os.chdir(ROOT)  # the paths of the configuration are relative to it
    say("Prefix trees: every shared token once")
    trees = train("policy", steps, packs_in(CONFIG))
    say("Packed documents: every rollout in full")
    documents = train("policy-documents", [*steps, *DOCUMENTS], packs_in(CONFIG, DOCUMENTS))
    say("Padding: a row for every rollout, with PaddleNLP's dense mask; the operator is not enabled")
    padded = train("policy-padded", [*steps, *PADDED], arguments.prompts)

    say("What was measured")
    report(trees, documents, padded)
    demo.draw_mask(CONFIG, OUTPUT / "policy-mask.png")
    print(f"picture: {shown(OUTPUT / 'policy-mask.png')}")


def prepare(prompts: int) -> None:
    """Write the data and the model of the demo, and rollouts of `prompts` instructions."""
    data = demo.prepare(None)
    try:
        rows = rollout_rows(read_rows(data / "train.json"), prompts)
    except ValueError as error:
        sys.exit(f"rollouts: {error}")
    write_rows(OUTPUT / "rollouts" / "train.json", rows)
    print(f"{prompts} prompts with {ROLLOUTS} rollouts each in {shown(OUTPUT / 'rollouts' / 'train.json')}", flush=True)


def packs_in(config: Path, overrides: list[str] | None = None) -> int:
    """The number of packs of all rollouts."""
    return len(demo.packs_of(config, overrides or [])[2])


def train(name: str, overrides: list[str], micro_batches: int) -> dict:
    """Train with all rollouts in every step, as `micro_batches` batches."""
    return run_training(CONFIG, OUTPUT / name, [*overrides, "--gradient_accumulation_steps", str(micro_batches)])


def report(trees: dict, documents: dict, padded: dict) -> None:
    before, after = trees["packing"]["sequence_tokens"], trees["packing"]["tokens"]
    print(f"tokens of the rollouts   {before:,}")
    print(f"tokens in the trees      {after:,}")
    print(f"sharing ratio            {trees['packing']['sharing']:.2f}")
    runs = {"trees": trees, "documents": documents, "padded": padded}
    for name, run in runs.items():
        losses = " ".join(f"{loss:.6f}" for _, loss in run["losses"])
        print(f"{name:<12} {seconds(run):6.2f} s per step (median after the first), losses {losses}")
    print(f"documents / trees        {seconds(documents) / seconds(trees):.2f} (step time)")
    print(f"padded / trees           {seconds(padded) / seconds(trees):.2f} (step time; the runs follow one another)")
    gap = max(
        abs(loss - ours)
        for run in (documents, padded)
        for (_, loss), (_, ours) in zip(run["losses"], trees["losses"], strict=True)
    )
    print(f"largest loss difference  {gap:.1e}")


def seconds(run: dict) -> float:
    return median(run["step_seconds"][1:])


if __name__ == "__main__":
    main()
