"""Context parallel attention on simulated ranks against the dense float64 reference."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from registry_masks import NAMES, build_mask
from simulated import Group
from support import mask_samples
from support.cases import problem_of
from support.compare import Expectation
from support.pairwise import pairwise
from support.problem import Problem

from paddle_flashmask.distributed.columns import sequence_columns
from paddle_flashmask.distributed.merge import Rows, sink_gradient
from paddle_flashmask.distributed.pieces import Options
from paddle_flashmask.distributed.plan import make_plan
from paddle_flashmask.distributed.ring import Context, attend, gradients
from paddle_flashmask.distributed.rows import check_rows, row_numbers

AXES = {"query": 1, "key": 1, "value": 1, "dout": 1, "dlse": 2, "out": 1, "lse": 2, "dquery": 1, "dkey": 1, "dvalue": 1}
# The cuts of a sequence of 150 rows and the ranks that hold the pieces; pieces begin at multiples of 16 for dropout.
LAYOUTS = {
    "one rank": ([], [0]),
    "contiguous": ([64], [0, 1]),
    "zigzag": ([32, 80, 112], [0, 1, 1, 0]),
    "uneven": ([16, 32, 128, 144], [2, 0, 2, 1, 2]),
    "a rank without rows": ([48, 96], [2, 0, 2]),
    "many": ([16, 32, 48, 64, 80, 96, 112, 128], [0, 1, 2, 3, 3, 2, 0, 1, 2]),
}
SEQLEN = 150
CASES = pairwise(
    {
        "kind": mask_samples.kinds(),
        "layout": list(LAYOUTS),
        "heads": [(1, 1, 1), (4, 2, 1), (4, 2, 4), (3, 1, 3)],
        "dims": [(16, 16), (8, 24)],
        "window": [(-1, -1), (-1, -1), (30, -1), (-1, 20), (60, 40)],
        "sink": [False, True],
        "dropout": [0.0, 0.0, 0.3],
        "dlse": [False, True],
        "batch": [1, 2],
    }
)


def rows_of(layout: str) -> tuple:
    cuts, holders = LAYOUTS[layout]
    bounds = [0, *cuts, SEQLEN]
    ranges = list(zip(bounds[:-1], bounds[1:], strict=True))
    return check_rows(
        [
            [pair for pair, holder in zip(ranges, holders, strict=True) if holder == rank]
            for rank in range(max(holders) + 1)
        ],
        max(holders) + 1,
    )


def run(problem: Problem, rows: tuple) -> tuple[dict[str, np.ndarray], Group]:
    """Results of all ranks, put together, and the group with what was sent."""
    columns = sequence_columns(problem.startend, problem.causal, problem.window, problem.seqlen_k)
    seed_offset = paddle.to_tensor(np.array([problem.seed, problem.offset], np.uint64).astype(np.int64))
    group = Group(len(rows))
    inputs = {name: paddle.to_tensor(values) for name, values in problem.inputs.items()}
    if not problem.dlse:
        inputs["dlse"] = paddle.zeros([problem.batch, problem.heads_q, problem.seqlen_q])
    numbers = [row_numbers(ranges) for ranges in rows]

    def program(exchange) -> dict[str, np.ndarray]:
        rank = exchange.rank
        plan = make_plan(columns, rows, rank, in_blocks=problem.dropout > 0.0)
        context = Context(plan, exchange, Options(problem.scale, problem.dropout, False, seed_offset))
        own = {
            name: paddle.to_tensor(np.take(inputs[name].numpy(), numbers[rank], AXES[name]))
            for name in ("query", "key", "value", "dout", "dlse")
        }
        sink = inputs["sink"] if problem.sink else None
        with paddle.no_grad():
            out, lse = attend(own["query"], own["key"], own["value"], sink, context)
            given = Rows(own["query"], out, lse, own["dout"], own["dlse"])
            found = gradients(given, own["key"], own["value"], context)
            results = dict(zip(("out", "lse", "dquery", "dkey", "dvalue"), (out, lse, *found), strict=True))
            if sink is not None:
                results["dsink"] = sink_gradient(sink, given)
        return {name: tensor.numpy() for name, tensor in results.items()}

    found = group.run(program)
    results = {}
    for name in found[0]:
        if name == "dsink":
            results[name] = sum(part[name] for part in found)
            continue
        whole = np.concatenate([part[name] for part in found], axis=AXES[name])
        results[name] = np.take(whole, np.argsort(np.concatenate(numbers)), axis=AXES[name])
    return results, group


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_random_masks(case: dict) -> None:
    problem = problem_of({**case, "size": (SEQLEN, SEQLEN), "blocks": False})
    results, _ = run(problem, rows_of(case["layout"]))
    Expectation(problem, draws=4).check(results, f"kind={case['kind']} layout={case['layout']}")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "draft_training"])  # where keys outnumber rows
def test_every_mask(name: str) -> None:
    mask = build_mask(name, SEQLEN, 1, 1)
    problem = Problem(
        seqlen_q=SEQLEN, seqlen_k=SEQLEN, startend=mask.startend_row_indices, causal=mask.causal, heads_kv=1, dlse=True
    )
    for layout in ("zigzag", "uneven"):
        Expectation(problem, draws=4).check(run(problem, rows_of(layout))[0], f"layout={layout}")


def test_documents_of_one_rank_send_nothing() -> None:
    documents = build_mask("causal_document", 64, 1, 1)
    problem = Problem(seqlen_q=64, seqlen_k=64, startend=documents.startend_row_indices, causal=True)
    ends = np.unique(documents.startend_row_indices)
    _, group = run(problem, check_rows([[(0, int(ends[1]))], [(int(ends[1]), 64)]], 2))
    assert group.sent == [0, 0]


def test_only_keys_that_are_seen_are_sent() -> None:
    """Rows from 128 on see the last 16 keys before them."""
    problem = Problem(seqlen_q=256, seqlen_k=256, causal=True, window=(16, -1))
    _, group = run(problem, check_rows([[(0, 128)], [(128, 256)]], 2))
    per_key = problem.heads_kv * (problem.head_dim + problem.head_dim_v)
    assert group.sent == [2 * 16 * per_key, 16 * per_key]  # keys in both passes, their gradients back
