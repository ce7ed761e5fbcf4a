"""Where keys and values are read as they are, and where they are packed."""

from __future__ import annotations

import pytest
from support.call import Call
from support.library import Kernels
from support.problem import Problem


def workspace(kernels: Kernels, **sizes: int) -> int:
    """Bytes of a forward workspace."""
    return kernels.forward_workspace(Call(kernels, Problem(head_dim=128, head_dim_v=128, **sizes)).params)


@pytest.mark.parametrize(
    ("rows", "heads_q", "heads_kv", "packs"),
    [
        (1, 2, 2, False),
        (8, 2, 2, False),
        (9, 2, 2, True),
        (4, 8, 2, False),
        (8, 8, 2, False),
        (8, 16, 2, True),
        (1, 16, 1, False),
    ],
)
def test_few_queries_do_not_pack_the_keys(
    kernels: Kernels, rows: int, heads_q: int, heads_kv: int, packs: bool
) -> None:
    seqlen_k = 4096
    packed = 2 * 4 * 128 * seqlen_k * heads_kv
    needed = workspace(kernels, seqlen_q=rows, seqlen_k=seqlen_k, heads_q=heads_q, heads_kv=heads_kv)
    assert (needed > packed) == packs
