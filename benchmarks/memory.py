"""Memory of forward and backward beyond their inputs and outputs, by sequence length.

    PYTHONPATH=tests python -m benchmarks.memory --output benchmarks/results/memory.csv

Each row is measured in a fresh process with NumPy and the kernels only, as the peak resident set of both passes (VmHWM)
minus the resident set after inputs and outputs were written once.
"""

from __future__ import annotations

import csv
import ctypes
import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
from support.library import ABI_VERSION, DTYPES, Kernels, Params, Tensor

from paddle_flashmask import masks

REPOSITORY = Path(__file__).resolve().parents[1]
KERNELS = REPOSITORY / "paddle_flashmask" / "_kernels.so"
COLUMNS = (
    "mask",
    "seqlen",
    "heads",
    "head_dim",
    "dtype",
    "threads",
    "density",
    "inputs_and_outputs_mib",
    "forward_workspace_mib",
    "backward_workspace_mib",
    "peak_extra_rss_mib",
    "extra_kib_per_token",
    "dense_scores_mib",
    "commit",
)
SHOWN = (
    "mask",
    "seqlen",
    "density",
    "backward_workspace_mib",
    "peak_extra_rss_mib",
    "extra_kib_per_token",
    "dense_scores_mib",
)
BUILDERS = {
    "causal_document": lambda seqlen: masks.causal_document([1024] * (seqlen // 1024)),
    "sliding_window": lambda seqlen: masks.sliding_window(seqlen, 1024),
    "document": lambda seqlen: masks.document([1024] * (seqlen // 1024)),
}
MIB = 2**20
ELEMENT_SIZE = {"float32": 4, "bfloat16": 2}


def status_bytes(field: str) -> int:
    """Field of /proc/self/status: VmRSS, the resident set now, or VmHWM, its peak since forget_peak()."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def aligned_bytes(size: int) -> np.ndarray:
    """Untouched memory, of which only the part that the kernels access becomes resident."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def measure(mask: str, seqlen: int, heads: int, head_dim: int, dtype: str, threads: int) -> dict[str, float]:
    """Figures of both passes, run once in this process, which must not have run a larger problem before."""
    kernels = Kernels(KERNELS)
    column_mask = BUILDERS[mask](seqlen)
    density = column_mask.statistics(64, 128).density
    columns = column_mask.startend_row_indices
    size = ELEMENT_SIZE[dtype]
    storage = np.float32 if dtype == "float32" else np.uint16
    shape = (1, seqlen, heads, head_dim)
    held = {name: np.zeros(shape, storage) for name in ("out", "dquery", "dkey", "dvalue")}
    rng = np.random.default_rng(0)
    for name in ("query", "key", "value", "dout"):
        values = np.empty(shape, np.float32)
        for token in range(0, seqlen, 1024):  # in pieces, so that the random numbers do not raise the peak
            values[:, token : token + 1024] = rng.standard_normal((1, 1024, heads, head_dim), dtype=np.float32)
        if dtype == "float32":
            held[name] = values
        else:
            held[name] = np.empty(shape, np.uint16)
            np.right_shift(values.view(np.uint32), np.uint32(16), out=held[name], casting="unsafe")
        del values
    for name in ("out", "dquery", "dkey", "dvalue"):
        held[name][...] = 1  # resident before the passes
    lse = np.ones((1, heads, seqlen), np.float32)

    params = Params(
        struct_size=ctypes.sizeof(Params),
        version=ABI_VERSION,
        dtype=DTYPES[dtype],
        batch=1,
        seqlen_q=seqlen,
        seqlen_k=seqlen,
        heads_q=heads,
        heads_kv=heads,
        heads_mask=1,
        head_dim=head_dim,
        head_dim_v=head_dim,
        lse=lse.ctypes.data,
        causal=column_mask.causal,
        window_left=-1,
        window_right=-1,
        startend_row_indices=columns.ctypes.data,
        startend_bounds=columns.shape[-1],
        startend_stride_batch=columns[0].size,
        startend_stride_head=columns[0, 0].size,
        softmax_scale=head_dim**-0.5,
        num_workers=threads,
    )
    for name, array in held.items():
        setattr(params, name, Tensor(array.ctypes.data, array[0].size, heads * head_dim, head_dim))

    forget_peak()
    before = status_bytes("VmRSS")
    workspaces = {}
    for name, workspace_size, run in (
        ("forward", kernels.forward_workspace, kernels.forward),
        ("backward", kernels.backward_workspace, kernels.backward),
    ):
        workspaces[name] = workspace_size(params)
        workspace = aligned_bytes(workspaces[name])
        params.workspace, params.workspace_size = workspace.ctypes.data, workspace.size
        run(params)
        del workspace
    extra = status_bytes("VmHWM") - before
    assert all(np.isfinite(held[name].astype(np.float32)).all() for name in ("out", "dquery", "dkey", "dvalue"))
    return {
        "density": round(density, 5),
        "inputs_and_outputs_mib": round((8 * seqlen * heads * head_dim * size + lse.nbytes + columns.nbytes) / MIB, 2),
        "forward_workspace_mib": round(workspaces["forward"] / MIB, 2),
        "backward_workspace_mib": round(workspaces["backward"] / MIB, 2),
        "peak_extra_rss_mib": round(extra / MIB, 2),
        "extra_kib_per_token": round(extra / 1024 / seqlen, 3),
        "dense_scores_mib": round(heads * seqlen * seqlen * size / MIB, 2),
    }


def markdown(results: Path) -> str:
    """The CSV as a table."""
    with results.open() as file:
        rows = list(csv.DictReader(file))
    lines = ["| " + " | ".join(SHOWN) + " |", "|" + "---|" * len(SHOWN)]
    lines += ["| " + " | ".join(row[column] for column in SHOWN) + " |" for row in rows]
    return "\n".join(lines)


def in_fresh_process(**arguments) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--only", json.dumps(arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode != 0:
        raise click.ClickException(done.stderr)
    return json.loads(done.stdout)


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/memory.csv"))
@click.option("--seqlen", "seqlens", type=int, multiple=True, default=(4096, 8192, 16384, 32768), show_default=True)
@click.option("--heads", default=8, show_default=True)
@click.option("--head-dim", default=64, show_default=True)
@click.option("--dtype", type=click.Choice(list(ELEMENT_SIZE)), default="bfloat16", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--only", hidden=True, help="Make one measurement, given as JSON, in this process.")
def main(
    output: Path, seqlens: tuple[int, ...], heads: int, head_dim: int, dtype: str, threads: int, only: str
) -> None:
    if only:
        print(json.dumps(measure(**json.loads(only))))
        return
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for mask in BUILDERS:
            for seqlen in seqlens:
                case = {"mask": mask, "seqlen": seqlen, "heads": heads, "head_dim": head_dim}
                case |= {"dtype": dtype, "threads": threads}
                row = {**case, **in_fresh_process(**case), "commit": commit}
                writer.writerow(row)
                file.flush()
                click.echo(
                    f"{mask:16} {seqlen:6} tokens: {row['peak_extra_rss_mib']:8.1f} MiB extra, "
                    f"{row['extra_kib_per_token']:6.2f} KiB per token (dense scores {row['dense_scores_mib']:9.1f} MiB)"
                )
    output.with_suffix(".md").write_text(markdown(output) + "\n")


if __name__ == "__main__":
    main()
