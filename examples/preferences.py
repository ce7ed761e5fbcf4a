"""DPO, a reward model and KTO on 300 real preference pairs, with column masks and with the dense mask.

    python examples/preferences.py                  # all three, writes demo-output/
    python examples/preferences.py dpo --steps 5

The training itself is a single command: `paddle-flashmask train examples/dpo/config.json`.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median

from demo import OUTPUT, ROOT, run_training, say, shown
from sft.prepare import PREFERENCES, PrepareError, download_rows, make_model, write_rows

TASKS = ("dpo", "rm", "kto")
DEV_ROWS = 24
DENSE = [
    *("--flash_mask", "false", "--use_flash_attention", "false"),
    *("--do_eval", "false", "--evaluation_strategy", "no"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=TASKS, metavar="task", help=f"of {', '.join(TASKS)}; default: all")
    parser.add_argument("--steps", type=int, help="training steps (default: those of the configurations)")
    arguments = parser.parse_args()
    unknown = set(arguments.tasks) - set(TASKS)
    if unknown:
        parser.error(f"unknown task {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}")

    say("Data, tokenizer, model configuration")
    prepare()
    steps = ["--max_steps", str(arguments.steps)] if arguments.steps else []
    for task in arguments.tasks:
        say(f"{task}: column masks (FlashMask), then the dense mask without the operator")
        config = ROOT / "examples" / task / "config.json"
        columns = run_training(config, OUTPUT / task, steps)
        dense = run_training(config, OUTPUT / f"{task}-dense", [*steps, *DENSE])
        report(columns, dense)


def prepare() -> None:
    from paddlenlp.utils.log import logger

    logger.set_level("WARNING")
    downloads = OUTPUT / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    folder = OUTPUT / "preferences"
    try:
        rows = pairs(download_rows(downloads, PREFERENCES))
    except PrepareError as error:
        sys.exit(f"preferences: {error}")
    train, dev = rows[:-DEV_ROWS], rows[-DEV_ROWS:]
    for name, part in (("train", train), ("dev", dev)):
        write_rows(folder / f"{name}.jsonl", part)
        write_rows(folder / f"kto-{name}.jsonl", marked(part))
    print(f"{len(train)} preference pairs to train on and {len(dev)} to evaluate, in {shown(folder)}")
    make_model(OUTPUT / "preference-model", folder / "train.jsonl")
    print(f"tokenizer and model configuration in {shown(OUTPUT / 'preference-model')}", flush=True)


def pairs(rows: list[dict]) -> list[dict]:
    """Convert the rows of the data package to PaddleNLP's form."""
    found = []
    for row in rows:
        texts = [turn["value"] for turn in row["conversations"] if turn["from"] in ("human", "gpt")]
        answers = [row[key]["value"] for key in ("chosen", "rejected")]
        if len(texts) % 2 and all(text.strip() for text in texts + answers):
            found.append({"src": texts[0::2], "tgt": texts[1::2], "response": answers, "sort": [1, 0]})
    return found


def marked(rows: list[dict]) -> list[dict]:
    """KTO rows: in turn the better answer of a pair, as wanted, and the worse one of the next, as not wanted."""
    return [{**row, "response": [row["response"][i % 2]], "sort": [1 - i % 2]} for i, row in enumerate(rows)]


def report(columns: dict, dense: dict) -> None:
    packing = columns["packing"]
    print(
        f"packing efficiency       {packing['efficiency']:.1%}, {packing['documents_per_pack']:.1f} questions per pack"
    )
    print(f"mask density             {packing['mask_density']:.1%} of all query-key pairs")
    ratio = median(dense["step_seconds"]) / median(columns["step_seconds"])
    print(f"dense time / column time {ratio:.2f} (whole training steps, median)")
    worst = max(abs(a - b) / abs(b) for (_, a), (_, b) in zip(columns["losses"], dense["losses"], strict=True))
    print(f"largest loss difference  {worst:.1e} relative over {len(columns['losses'])} steps")
    evaluation = {key: value for key, value in columns["evaluations"][-1].items() if key.startswith("eval_")}
    for key in ("eval_loss", "eval_accuracy", "eval_margin", "eval_rewards/accuracies", "eval_rewards/margins"):
        if key in evaluation:
            print(f"{key:<24} {evaluation[key]:.4f}")


if __name__ == "__main__":
    main()
