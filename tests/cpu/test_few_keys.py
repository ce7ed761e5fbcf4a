"""Calls with few keys, whose queries are read as they are."""

from __future__ import annotations

import numpy as np
import pytest
from support.call import Call, run
from support.compare import Expectation
from support.library import Kernels
from support.problem import Problem


@pytest.mark.parametrize(("rows", "keys", "packs"), [(300, 1, False), (300, 8, False), (9, 8, False), (300, 9, True)])
def test_few_keys_are_not_padded_to_a_tile(kernels: Kernels, rows: int, keys: int, packs: bool) -> None:
    """A packed tile has 128 keys."""
    heads = 16
    problem = Problem(seqlen_q=rows, seqlen_k=keys, heads_q=heads, heads_kv=heads, head_dim=128, head_dim_v=128)
    packed = 2 * 4 * 128 * 128 * heads
    assert (kernels.forward_workspace(Call(kernels, problem).params) > packed) == packs


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("magnitude", [10.0, 40.0])
@pytest.mark.parametrize("sink", [False, True])
def test_gradients_where_one_key_has_all_the_weight(
    kernels: Kernels, isa: str, dtype: str, magnitude: float, sink: bool
) -> None:
    """The backward pass must compute the scores with the bits of the forward pass, to which lse belongs."""
    problem = Problem(
        seqlen_q=150,
        seqlen_k=5,
        heads_q=4,
        head_dim=64,
        head_dim_v=40,
        causal=True,
        causal_offset=0,
        dtype=dtype,
        magnitude=magnitude,
        sink=sink,
    )
    # Without fused multiply-add the products of a score are rounded, unlike NumPy's.
    Expectation(problem, 4.0 if isa == "portable" else 2.0, draws=4).check(run(kernels, problem), isa)


@pytest.mark.parametrize("element", [np.nan, np.inf])
def test_a_hidden_value_that_is_not_finite_changes_no_bit(kernels: Kernels, isa: str, element: float) -> None:
    """Key 3 is hidden from the rows before 140, in the middle of a tile."""
    startend = np.array([200, 200, 200, 200], np.int32).reshape(1, 1, 4, 1)
    upper = np.array([0, 0, 0, 140], np.int32).reshape(1, 1, 4, 1)
    problem = Problem(
        seqlen_q=200, seqlen_k=4, startend=np.concatenate([startend, upper], axis=-1), head_dim_v=33, dtype="bfloat16"
    )
    expected = run(kernels, problem)["out"]
    inputs = {name: x.copy() for name, x in problem.inputs.items()}
    inputs["value"][:, 3] = element
    problem.__dict__["inputs"] = inputs
    out = run(kernels, problem)["out"]
    np.testing.assert_array_equal(out[:, :140], expected[:, :140])
    assert not np.isfinite(out[:, 140:]).any()
