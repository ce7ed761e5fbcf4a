"""Rows of the bench parts, the most important first in case time runs out."""

from __future__ import annotations

import functools
from collections.abc import Callable

from tools.gpu_check.cases import kernel_row
from tools.gpu_check.outcome import Case
from tools.gpu_check.plan import Settings

from .bench import DETERMINISTIC, HIDDEN, Bench, Row, paper_row, toy_row
from .model_masks import CUDNN_FORMS, WITHOUT_COLUMNS
from .paper_masks import NAMES

# In the order of measurement. The last ones compile for long at their first call.
ALL_PEERS = ["sdpa_flash", "sdpa_cudnn", "fa3", "fa3_jax", "fa4", "flex", "cudnn_flex", "flex_flash"]
FIRST_PEERS = ALL_PEERS[:5]
# Rows of these are many, so the parts "bench-first" and "bench-peers" alone have FlashAttention-3's backward.
DENSE_PEERS = ["sdpa_flash", "sdpa_cudnn", "flex", "fa3", "fa4"]
SPARSE_PEERS = ["flex", "fa3", "fa4"]
FORM_PEERS = ["flex", "fa3_jax", "cudnn_flex"]
SPARSE_MASKS = [name for name in NAMES if name not in ("full", "causal")]
LONG = 131072
PREPARATION = ("PrepareColumns", "OrderTiles")  # kernels of csrc/cuda/common/prepare_kernels.h
PEER_SECONDS, OURS_SECONDS = 60.0, 40.0  # peers that compile at their first call take most of a minute
# heads * head_dim below the paper's 4096, so that 30 rounds of all rows fit the time.
HIDDEN_LONG, HIDDEN_DENSE_LONG = 512, 768


def measured(settings: Settings, rows: list[Row], peers: list[str], of_masks: tuple[str, ...] = ()) -> list[Case]:
    """Cases for the rows. The matrix product comes first and last, so that a drift of the clocks shows.

    Args:
        of_masks: further peers of the rows that are neither full nor causal.
    """
    shared: list[Bench] = []

    def bench() -> Bench:
        if not shared:
            shared.append(Bench(settings))
        return shared[0]

    found = [Case("matmul at the start", lambda: bench().matmul(), OURS_SECONDS), Case("copy", lambda: bench().copy())]
    for row in rows:
        for peer in [*peers, *(of_masks if row.mask in SPARSE_MASKS else ())]:
            measure = functools.partial(lambda row, peer: bench().measure_peer(row, peer), row, peer)
            found.append(Case(f"{peer}, {row.name}", measure, PEER_SECONDS, row=f"peer {peer} D{row.dims}"))
        ours = functools.partial(lambda row: bench().measure_ours(row), row)
        dims = row.head_dim, row.head_dim_v
        after = kernel_row(90, "forward", dims), kernel_row(90, "backward", dims)
        in_turn = functools.partial(lambda row: bench().measure_deterministic(row), row)
        turns = kernel_row(90, "backward", dims, in_turn=True)
        found.append(Case(f"{DETERMINISTIC}, {row.name}", in_turn, OURS_SECONDS, turns, after))
        found.append(Case(f"ours, {row.name}", ours, OURS_SECONDS, f"ours D{row.dims}", after))
    if settings.part == "bench":
        found[1:1] = [_preparation(bench)]
    if settings.part == "bench-masks":
        found.append(_kernels(bench, "forward"))
        found.append(_kernels(bench, "backward"))
    found.append(Case("matmul at the end", lambda: bench().matmul(), OURS_SECONDS))
    return found


def _preparation(bench: Callable[[], Bench]) -> Case:
    """Mask preparation, which dominates with one head and 128K keys."""

    def run() -> dict:
        row = Row("sliding_window", LONG, 64, 1, 1, 1)
        taken = bench().kernel_times(row, "forward")
        chosen = {name: us for name, us in taken.items() if any(kernel in name for kernel in PREPARATION)}
        assert chosen, f"no kernel of the preparation among {list(taken)}"
        return {"preparation_microseconds": sum(chosen.values()), "keys": LONG, "kernels": taken}

    return Case("mask preparation, 128K keys", run, OURS_SECONDS)


def _kernels(bench: Callable[[], Bench], direction: str) -> Case:
    row = paper_row("causal_document", 8192, 128)
    return Case(
        f"kernels of {direction}, {row.name}", lambda: {"kernels": bench().kernel_times(row, direction)}, OURS_SECONDS
    )


def dense(settings: Settings) -> list[Case]:
    sizes = [(seqlen, dim) for seqlen in (8192, 32768) for dim in (128, 64)]
    hidden = {8192: HIDDEN, 32768: HIDDEN_DENSE_LONG}
    rows = [paper_row(mask, seqlen, dim, hidden=hidden[seqlen]) for seqlen, dim in sizes for mask in ("causal", "full")]
    if settings.emulated:
        rows = [toy_row("full"), toy_row("causal")]
    return measured(settings, rows, DENSE_PEERS[:1] if settings.emulated else DENSE_PEERS)


def first(settings: Settings) -> list[Case]:
    """The rows that decide what to do next on a GPU that is at hand for minutes."""
    shapes = [(mask, dim) for dim in (128, 64) for mask in ("full", "causal", "causal_document")]
    rows = [paper_row(mask, 8192, dim) for mask, dim in shapes]
    if settings.emulated:
        rows = [toy_row("causal"), toy_row("causal_document")]
    if settings.emulated:
        return measured(settings, rows, FIRST_PEERS[:1])
    return measured(settings, rows, FIRST_PEERS, of_masks=("flex",))  # it compiles for long at each mask


def shapes(settings: Settings) -> list[Case]:
    """Head dims and groups of heads of models, beside 128 and 64: latent attention, 256, GQA."""
    rows = [
        Row("causal", 8192, 192, 16, 16, 2, value_dim=128),
        Row("causal_document", 8192, 192, 16, 16, 2, value_dim=128),
        Row("causal", 8192, 256, 16, 16, 4),
        Row("causal_document", 8192, 256, 16, 16, 4),
        Row("causal", 8192, 128, 64, 8, 1),
        Row("window_128", 8192, 64, 64, 8, 4),
    ]
    if settings.emulated:
        rows = [Row("causal", 256, 64, 4, 2, 1, "float32", value_dim=32)]
    return measured(settings, rows, [] if settings.emulated else DENSE_PEERS)


def peers(settings: Settings) -> list[Case]:
    """Every peer on the masks that most of them have."""
    rows = [paper_row(mask, 8192, 128) for mask in ("causal", "full", "causal_document")]
    if settings.emulated:
        rows = [toy_row("full")]
    return measured(settings, rows, ALL_PEERS)


def forms(settings: Settings) -> list[Case]:
    """The eight masks of cuDNN's FlexAttention benchmark, at its size. Two have no columns and are not run."""
    rows = [Row(mask, LONG, 128, 4, 4, 1) for mask in (*CUDNN_FORMS, "causal", *WITHOUT_COLUMNS)]
    if settings.emulated:
        rows = [toy_row(mask) for mask in (*CUDNN_FORMS, *WITHOUT_COLUMNS)]
    return measured(settings, rows, [] if settings.emulated else FORM_PEERS)


def masks(settings: Settings) -> list[Case]:
    rows = [paper_row(mask, seqlen, 128) for seqlen in (8192, 32768) for mask in SPARSE_MASKS]
    rows += [Row("causal_document", 8192, 128, 64, 8, 1), paper_row("causal_document", 8192, 64)]
    if settings.emulated:
        rows = [toy_row(mask) for mask in SPARSE_MASKS]
    return measured(settings, rows, [] if settings.emulated else SPARSE_PEERS)


def flex(settings: Settings) -> list[Case]:
    """FlexAttention with the mask in its users' idiom, beside the mask from its columns."""
    idiomatic = [name for name in SPARSE_MASKS if name not in ("qk_sparse", "random_eviction")]
    rows = [paper_row(mask, seqlen, 128) for seqlen in (8192, 32768) for mask in idiomatic]
    return measured(settings, rows, ["flex", "flex_idiomatic"])


def long(settings: Settings) -> list[Case]:
    rows = [paper_row(mask, LONG, 128, LONG, HIDDEN_LONG) for mask in [*SPARSE_MASKS, "causal", "full"]]
    return measured(settings, rows, SPARSE_PEERS)
