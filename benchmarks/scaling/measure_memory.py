"""Memory of training steps of small Llamas on a CPU beside the formulas of `benchmarks.scaling.memory`.

    PYTHONPATH=tests python -m benchmarks.scaling.measure_memory    # writes benchmarks/results/scaling_memory.csv

Bytes in use of Paddle's CPU allocator (`host_memory_stat_current_value`), float32, one sequence of two documents, each
case in a fresh process: weights with the rotary tables, gradients and optimizer states after the first step,
activations between forward and backward pass (loss included), and the peak of the second step beyond the states. The
operator's workspace lies outside the allocator; it is what the backward kernel asks for, with two threads.
"""

from __future__ import annotations

import csv
import ctypes
import itertools
import json
import subprocess
import sys
from pathlib import Path

import click

from . import memory
from .models import SMALL, TINY, Model

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "scaling_memory.csv"
MODELS = {model.name: model for model in (TINY, SMALL)}
PARTS = ("weights", "gradients", "optimizer", "activations", "peak", "workspace")
FIELDS = ("model", "rows", "recompute", *PARTS)


def formulas(model: Model, rows: int, recompute: bool) -> dict[str, int]:
    """Return the formula of each of PARTS."""
    parts = memory.states(model, memory.SINGLE)
    parts["weights"] += 2 * model.layers * rows * model.head_dim * memory.FLOAT32  # rotary tables of every layer
    parts["activations"] = parts["peak"] = memory.activations(model, rows, recompute=recompute)
    if recompute:
        parts["peak"] += memory.recomputed_layer(model, rows)
    return parts | {"workspace": memory.cpu_workspace(model, rows)}


def measure(name: str, rows: int, recompute: bool) -> dict[str, int]:
    """Return bytes of each of PARTS from two training steps in this process."""
    import paddle
    from paddle.base import core
    from paddlenlp.transformers import LlamaConfig, LlamaForCausalLM

    import paddle_flashmask
    from paddle_flashmask import masks

    def used() -> int:
        return core.host_memory_stat_current_value("Allocated", 0)

    model = MODELS[name]
    before = used()
    network = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=model.hidden,
            intermediate_size=model.feed_forward,
            num_hidden_layers=model.layers,
            num_attention_heads=model.heads,
            num_key_value_heads=model.heads_kv,
            vocab_size=model.vocabulary,
            max_position_embeddings=rows,
            use_flash_attention=True,
        )
    )
    network.train()
    if recompute:
        network.recompute_enable()
    found = {"weights": used() - before}
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=network.parameters())
    ids = paddle.randint(0, model.vocabulary, [1, rows])
    inputs = {
        "input_ids": ids,
        "position_ids": paddle.arange(rows).unsqueeze(0),
        "attn_mask_startend_row_indices": masks.causal_document([rows // 2] * 2).to_paddle(),
    }
    paddle_flashmask.enable()
    for _ in range(2):
        before = used()
        core.host_memory_stat_reset_peak_value("Allocated", 0)
        logits = network(**inputs, return_dict=True).logits
        loss = paddle.nn.functional.cross_entropy(logits, ids.unsqueeze(-1)).mean()
        found["activations"] = used() - before
        loss.backward()
        found["peak"] = core.host_memory_stat_peak_value("Allocated", 0) - before
        del logits, loss
        gradients = used() - before
        optimizer.step()
        found.setdefault("gradients", gradients)
        found.setdefault("optimizer", used() - before - gradients)
        optimizer.clear_grad(set_to_zero=True)
    return found | {"workspace": workspace(model, rows)}


def workspace(model: Model, rows: int) -> int:
    """Return the bytes that the backward kernel asks for."""
    from support.library import ABI_VERSION, DTYPES, Kernels, Params

    return Kernels(REPOSITORY / "paddle_flashmask" / "_kernels.so").backward_workspace(
        Params(
            struct_size=ctypes.sizeof(Params),
            version=ABI_VERSION,
            dtype=DTYPES["float32"],
            batch=1,
            seqlen_q=rows,
            seqlen_k=rows,
            heads_q=model.heads,
            heads_kv=model.heads_kv,
            heads_mask=1,
            head_dim=model.head_dim,
            head_dim_v=model.head_dim,
            causal=True,
            window_left=-1,
            window_right=-1,
            num_workers=2,
        )
    )


def load(results: Path = RESULTS) -> list[tuple[str, int, bool, dict[str, int]]]:
    """Return model, rows, recompute and bytes of every measured case."""
    with results.open(encoding="utf-8") as file:
        return [
            (row["model"], int(row["rows"]), row["recompute"] == "True", {part: int(row[part]) for part in PARTS})
            for row in csv.DictReader(file)
        ]


def markdown(results: Path = RESULTS) -> str:
    """MiB as measured, and in brackets by formula."""
    lines = [f"| model | rows | recompute | {' | '.join(PARTS)} |", f"|---|---|---|{'---|' * len(PARTS)}"]
    for name, rows, recompute, measured in load(results):
        expected = formulas(MODELS[name], rows, recompute)
        cells = [f"{measured[part] / 2**20:.2f} ({expected[part] / 2**20:.2f})" for part in PARTS]
        lines.append(f"| {name} | {rows} | {'yes' if recompute else 'no'} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--only", hidden=True, help="Make one measurement, given as JSON, in this process.")
def main(output: Path, only: str) -> None:
    if only:
        print(json.dumps(measure(*json.loads(only))))
        return
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for case in itertools.product(MODELS, (512, 2048), (False, True)):
            command = [sys.executable, "-m", "benchmarks.scaling.measure_memory", "--only", json.dumps(case)]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
            if done.returncode:
                raise click.ClickException(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            writer.writerow((*case, *(found[part] for part in PARTS)))
    output.with_suffix(".md").write_text(markdown(output) + "\n")


if __name__ == "__main__":
    main()
