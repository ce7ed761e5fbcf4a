"""One rank: `python context_parallel_rank.py WHAT FOLDER`. Writes FOLDER/rank<r>.json.

calls: {"values": {case: {result: greatest difference from one device, relative to its greatest value}}, "refusals":
{call: error}}. end in step N: rank 1 ends in the N-th step of the exchange; {"error": ..., "seconds": ...} of rank 0.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import paddle.distributed as dist
from cases import MASKS, Case, rows_of

import paddle_flashmask
from paddle_flashmask import distributed
from paddle_flashmask.distributed.exchange import Exchange

AXES = {"out": 1, "lse": 2, "query": 1, "key": 1, "value": 1}


def results(attention, case: Case, tensors: dict, columns, **options) -> dict[str, paddle.Tensor]:
    """out, lse and the gradients of one call."""
    inputs = {name: tensors[name].clone().detach() for name in ("query", "key", "value", "sink")}
    for tensor in inputs.values():
        tensor.stop_gradient = False
    sink = inputs.pop("sink")
    out, lse = attention(
        **inputs,
        startend_row_indices=columns,
        return_softmax_lse=True,
        learnable_sink=sink if case.sink else None,
        **{**case.options, **options},
    )
    finite = paddle.where(paddle.isfinite(lse), lse, paddle.zeros_like(lse))
    ((out * tensors["dout"]).sum() + (finite * tensors["dlse"]).sum()).backward()
    found = {"out": out, "lse": lse, **{name: tensor.grad for name, tensor in inputs.items()}}
    return found | ({"sink": sink.grad} if case.sink else {})


def compare(case: Case, group=None) -> dict[str, float]:
    rank = dist.get_rank(group)
    tensors = case.tensors()
    columns, causal = case.columns()
    columns = None if columns is None else paddle.to_tensor(columns)
    whole = results(paddle_flashmask.flashmask_attention, case, tensors, columns, causal=causal)
    share = {name: rows_of(tensors[name], case.rows[rank], 1) for name in ("query", "key", "value", "dout")}
    share |= {"dlse": rows_of(tensors["dlse"], case.rows[rank], 2), "sink": tensors["sink"]}
    options = {"causal": causal, "rows": case.rows, "group": group}
    ours = results(distributed.flashmask_attention, case, share, columns, **options)
    if case.sink:
        dist.all_reduce(ours["sink"], group=group)
    return {name: difference(result, whole[name], name, case.rows[rank]) for name, result in ours.items()}


def difference(ours, whole, name: str, ranges) -> float:
    expected = (rows_of(whole, ranges, AXES[name]) if name in AXES else whole).astype("float32").numpy()
    found, scale = ours.astype("float32").numpy(), whole.astype("float32").numpy()
    assert found.shape == expected.shape, (name, found.shape, expected.shape)
    if not expected.size:
        return 0.0
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected), err_msg=name)
    finite = np.isfinite(expected)
    error = np.abs(found[finite] - expected[finite]).max(initial=0.0)
    return float(error / max(np.abs(scale[np.isfinite(scale)]).max(initial=0.0), 1e-6))


def layouts(seqlen: int, ranks: int) -> dict[str, list[list[tuple[int, int]]]]:
    """Rows of every rank: equal, zigzag and uneven ones, and a rank without rows. All begin at multiples of 16."""
    step = seqlen // (2 * ranks) // 16 * 16
    bounds = [*range(0, 2 * ranks * step, step), seqlen]
    chunks = list(zip(bounds[:-1], bounds[1:], strict=True))
    uneven = [[chunk for place, chunk in enumerate(chunks) if place * place % ranks == rank] for rank in range(ranks)]
    return {
        "contiguous": [chunks[2 * rank : 2 * rank + 2] for rank in range(ranks)],
        "zigzag": [[chunks[rank], chunks[-1 - rank]] for rank in range(ranks)],
        "uneven": uneven,
        "one rank": [[(0, seqlen)] if rank == ranks - 1 else [] for rank in range(ranks)],
    }


def cases(ranks: int) -> dict[str, Case]:
    seqlen = 64 * ranks + 21
    of = layouts(seqlen, ranks)
    names = list(of)
    found = {f"{name}, {names[i % 3]}": Case(name, seqlen, of[names[i % 3]]) for i, name in enumerate(MASKS)}
    zigzag, uneven, one = of["zigzag"], of["uneven"], of["one rank"]
    window = {"window_size": (20, 9)}
    stream = {"dropout": 0.3, "fixed_seed_offset": paddle.to_tensor([7, 2**40 + 3])}
    found |= {
        "no mask": Case(None, seqlen, zigzag),
        "no mask, causal": Case(None, seqlen, uneven, options={"causal": True}),
        "window": Case(None, seqlen, zigzag, options=window),
        "window and holes": Case("qk_sparse", seqlen, zigzag, options={"window_size": (90, 3)}),
        "window and two holes": Case("global_sliding_window", seqlen, uneven, options={"window_size": (50, 60)}),
        "one query head": Case("prefix_tree", seqlen, zigzag, heads_q=3, heads_kv=1, heads_mask=3),
        "no shared heads": Case("random_eviction", seqlen, zigzag, heads_q=4, heads_kv=4, heads_mask=4),
        "sink": Case("causal_document", seqlen, zigzag, sink=True),
        "sink, uneven": Case("hash_sparse", seqlen, uneven, sink=True),
        "one rank has the rows": Case("share_question", seqlen, one, sink=True),
        "dropout": Case("causal_document", seqlen, zigzag, options=stream),
        "dropout, holes, sink": Case("global_sliding_window", seqlen, uneven, sink=True, options=stream),
        "scale": Case("document", seqlen, zigzag, options={"softmax_scale": 0.7, "deterministic": True}),
        "bfloat16": Case("causal", seqlen, zigzag, dtype="bfloat16"),
    }
    return found


def values() -> dict[str, dict[str, float]]:
    found = {name: compare(case) for name, case in cases(dist.get_world_size()).items()}
    if dist.get_world_size() == 4:  # in a group of some ranks, in another order than theirs
        group = dist.new_group([1, 3])
        if group.rank >= 0:
            found["group"] = compare(cases(2)["sink"], group)
    return found


def refusals() -> dict[str, str]:
    """What each call raises. The calls of `values` come after them."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    case = Case("causal", 64 * ranks, [[(64 * place, 64 * place + 64)] for place in range(ranks)])
    tensors, columns = case.tensors(), paddle.to_tensor(case.columns()[0])
    query, key, value = (rows_of(tensors[name], case.rows[rank], 1) for name in ("query", "key", "value"))
    differing, others = query.clone(), columns.clone()
    differing.stop_gradient = rank == 1
    if rank == 1:
        others[0, 0, 0, 0] = 5
    unaligned = [[(0, 24), (40, 80)], [(24, 40), (80, 128)], *case.rows[2:]]
    calls = {
        "a shape": ((query, key, value[:, :, :1] if rank == 1 else value, columns), {}),
        "a mask": ((query, key, value, others), {}),
        "stopped gradients": ((differing, key, value, columns), {}),
        "dropout": ((query, key, value, columns), {"rows": unaligned, "dropout": 0.1}),
    }
    found = {}
    for name, (arguments, options) in calls.items():
        try:
            distributed.flashmask_attention(*arguments, **{"rows": case.rows, "causal": True, **options})
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def ended(steps: int) -> dict[str, str | float]:
    """Rank 1 ends in its step number `steps` of the exchange."""
    start, done = Exchange.start, []

    def start_or_end(self, *arguments):
        done.append(None)
        if dist.get_rank() == 1 and len(done) == steps:
            os._exit(9)
        return start(self, *arguments)

    Exchange.start = start_or_end
    begin = time.monotonic()
    try:
        compare(Case("causal", 128, [[(0, 64)], [(64, 128)]]))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "seconds": time.monotonic() - begin}
    return {"error": "", "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    what = sys.argv[1]
    dist.init_parallel_env()
    found = ended(int(what.split()[-1])) if what != "calls" else {"refusals": refusals(), "values": values()}
    Path(sys.argv[2], f"rank{dist.get_rank()}.json").write_text(json.dumps(found))
    if what == "calls":
        dist.barrier()
    os._exit(0)  # Gloo's threads sometimes abort while the interpreter ends
