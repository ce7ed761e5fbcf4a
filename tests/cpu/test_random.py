"""Random problems: exact results, the same bits with any number of threads, no influence of hidden keys."""

from __future__ import annotations

import copy

import numpy as np
from hypothesis import given, settings
from support.call import run
from support.compare import Expectation, assert_same_bits
from support.library import Kernels
from support.problem import Problem
from support.strategies import problems


@settings(max_examples=300)
@given(problem=problems())
def test_results_are_exact(kernels: Kernels, isa: str, problem: Problem) -> None:
    Expectation(problem, draws=4).check(run(kernels, problem), isa)


@settings(max_examples=60)
@given(problem=problems())
def test_threads_do_not_change_a_bit(kernels: Kernels, isa: str, problem: Problem) -> None:
    first = run(kernels, problem, workers=1)
    for workers in (2, 3, 5, 1):
        assert_same_bits(first, run(kernels, problem, workers=workers), f"with {workers} threads\n{problem}")


@settings(max_examples=60)
@given(problem=problems())
def test_hidden_keys_have_no_influence(kernels: Kernels, isa: str, problem: Problem) -> None:
    """Changing keys that no query sees changes no result, and their gradients are zero."""
    hidden = ~problem.visible.any(axis=(1, 2))  # [B, Sk]
    first = run(kernels, problem)
    changed = copy.copy(problem)
    inputs = {name: x.copy() for name, x in problem.inputs.items()}
    for name in ("key", "value"):
        inputs[name][hidden] = 11.0
    changed.__dict__["inputs"] = inputs
    assert_same_bits(first, run(kernels, changed), f"when hidden keys change\n{problem}")
    for name in ("dkey", "dvalue"):
        assert (first[name][hidden] == 0).all(), name


@settings(max_examples=60)
@given(problem=problems())
def test_rows_without_visible_keys_are_empty(kernels: Kernels, isa: str, problem: Problem) -> None:
    blind = ~problem.visible.any(axis=-1)  # [B, Hq, Sq]
    result = run(kernels, problem)
    by_row = blind.transpose(0, 2, 1)
    assert (result["out"][by_row] == 0).all()
    assert (result["dquery"][by_row] == 0).all()
    if problem.sink:
        sink = np.broadcast_to(problem.inputs["sink"][None, :, None], blind.shape)
        np.testing.assert_allclose(result["lse"][blind], sink[blind], rtol=1e-6)
    else:
        assert (result["lse"][blind] == -np.inf).all()
        assert np.isfinite(result["lse"][~blind]).all()
