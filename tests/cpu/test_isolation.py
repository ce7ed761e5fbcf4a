"""NaN and infinity reach the rows that a visible pair connects with them, and no others."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from support import mask_samples
from support.call import run
from support.cases import problem_of
from support.dense import GRADIENTS
from support.library import Kernels
from support.pairwise import pairwise
from support.problem import Problem

from paddle_flashmask.masks.registry import MASKS

ELEMENTS = (np.nan, np.inf, -np.inf)
PLACES = ("query", "key", "value", "dout", "dlse", "document", "unseen")
CHOICES = {
    "kind": mask_samples.kinds(),
    "place": PLACES,
    "element": ELEMENTS,
    "size": [(90, 150), (200, 200), (130, 257), (257, 130), (320, 385), (4, 520), (8, 150), (200, 8)],
    "dtype": ["float32", "bfloat16", "float16"],
    "heads": [(1, 1, 1), (2, 2, 2), (4, 2, 1), (4, 2, 4)],
    "dims": [(16, 16), (7, 33), (128, 64)],
    "window": [(-1, -1), (-1, -1), (30, 20)],
    "blocks": [False, True],
    "sink": [False, True],
    "dropout": [0.0, 0.3],
    "layout": ["packed", "padded"],
    "batch": [(1, True), (2, True)],
    "workers": [1, 3],
}
CASES = pairwise(CHOICES)


def plant(problem: Problem, place: str, element: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Set whole rows of one head of an input to `element`. Returns bool [B, S, H] of the rows set, by input.

    place: "document" sets adjacent rows of every input, "unseen" the keys that no row sees and the rows that see none.
    """
    inputs = {name: x.copy() for name, x in problem.inputs.items()}
    names = (place,) if place in inputs else ("query", "key", "value", "dout")
    rows = {name: np.zeros(_rows_of(name, inputs[name]).shape[:3], bool) for name in (*names, "query", "key")}
    batch, where = rng.integers(problem.batch), rng.random()
    for name in names:
        planted = rows[name]
        length, heads = planted.shape[1:]
        if place == "unseen":
            sees = problem.visible.any(axis=-1 if name in ("query", "dout") else -2)
            planted[...] = ~sees.reshape(problem.batch, heads, -1, length).any(axis=2).transpose(0, 2, 1)
        else:
            first = int(where * length)
            planted[batch, first : first + (20 if place == "document" else 2), rng.integers(heads)] = True
        _rows_of(name, inputs[name])[planted] = element
    problem.__dict__["inputs"] = inputs
    return rows


def _rows_of(name: str, values: np.ndarray) -> np.ndarray:
    """View [B, S, H, D] of an input."""
    return values.transpose(0, 2, 1)[..., None] if name == "dlse" else values


def connected(problem: Problem, planted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the rows set may change, by result: bool [B, S, H], [B, H, S] for lse and [H] for dsink."""
    visible = problem.visible
    group = problem.heads_q // problem.heads_kv
    sees = visible.any(axis=-1)

    def of_rows(*names: str) -> np.ndarray:
        found = np.zeros_like(sees)
        for name in names:
            if name in planted:
                found |= planted[name].transpose(0, 2, 1)
        return found & sees

    def of_keys(name: str) -> np.ndarray:
        if name not in planted:
            return np.zeros_like(sees)
        keys = np.repeat(planted[name].transpose(0, 2, 1), group, axis=1)
        return (visible & keys[:, :, None, :]).any(axis=-1)

    def keys_of(rows: np.ndarray) -> np.ndarray:
        keys = (visible & rows[..., None]).any(axis=-2)
        return keys.reshape(problem.batch, problem.heads_kv, group, -1).any(axis=2)

    scores = of_rows("query") | of_keys("key")
    scores_gradient = scores | of_keys("value") | of_rows("dout", "dlse")
    sink = scores_gradient.any(axis=(0, 2))
    for name in ("dout", "dlse"):  # a row that sees no key sees the sink
        sink |= planted[name].any(axis=(0, 1)) if name in planted else False
    rows = {
        "out": scores | of_keys("value"),
        "dquery": scores_gradient,
        "dkey": keys_of(scores_gradient),
        "dvalue": keys_of(scores | of_rows("dout")),
    }
    return {**{name: x.transpose(0, 2, 1) for name, x in rows.items()}, "lse": scores, "dsink": sink}


def check(kernels: Kernels, problem: Problem, place: str, element: float, workers: int = 1) -> None:
    """Compare all results with those of the problem before planting: the same bits in all rows not connected."""
    rng = np.random.default_rng(zlib.crc32(str(problem).encode()))
    clean = run(kernels, problem, workers)
    reached = connected(problem, plant(problem, place, element, rng))
    for name, result in run(kernels, problem, workers).items():
        elsewhere = ~reached[name]
        changed = result[elsewhere].view(np.uint32) != clean[name][elsewhere].view(np.uint32)
        assert not changed.any(), f"{name}: {np.count_nonzero(changed)} elements elsewhere changed; {place}, {problem}"
        if np.isnan(element):
            assert np.isnan(result[reached[name]]).all(), f"{name} hides NaN; {place}, {problem}"


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_case(kernels: Kernels, case: dict) -> None:
    for isa in kernels.isas():
        kernels.set_isa(isa)
        try:
            check(kernels, _problem(case), case["place"], case["element"], case["workers"])
        finally:
            kernels.set_isa("")


def _problem(case: dict) -> Problem:
    return problem_of({**case, "dlse": True})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("entry", MASKS, ids=[entry.name for entry in MASKS])
def test_masks_of_the_registry(kernels: Kernels, isa: str, entry, place: str) -> None:
    """Each example with 13 tokens in place of one, so that its edges lie inside tiles."""
    mask = entry.example.build()
    startend = np.repeat(mask.startend_row_indices * 13, 13, axis=2).astype(np.int32)
    heads = mask.heads
    problem = Problem(
        batch=mask.batch,
        seqlen_q=13 * mask.seqlen_q,
        seqlen_k=13 * mask.seqlen_k,
        heads_q=heads,
        heads_kv=heads,
        heads_mask=heads,
        causal=mask.causal,
        startend=startend,
        sink=True,
        dlse=True,
    )
    check(kernels, problem, place, np.nan)


def test_every_result_is_checked(kernels: Kernels) -> None:
    problem = Problem(sink=True, dlse=True)
    assert set(connected(problem, {})) == {"out", "lse", *GRADIENTS}
    assert run(kernels, problem).keys() == connected(problem, {}).keys()
