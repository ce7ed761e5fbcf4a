"""Sharing out of a batch over a context parallel group; whole runs are in `test_hybrid.py`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from paddle_flashmask.integrations.paddlenlp.context_parallel import sequences
from paddle_flashmask.integrations.paddlenlp.errors import DataError


def columns(seqlen: int) -> paddle.Tensor:
    """One document and a padding key."""
    ends = np.full([1, 1, seqlen, 1], seqlen - 1, dtype=np.int32)
    ends[..., -1, :] = 0
    return paddle.to_tensor(ends)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_every_process_has_rows_of_short_batches(processes):
    for seqlen in (processes, processes + 1, 17, 33, 48, 49, 100):
        held = []
        for rank in range(processes):
            with sequences.divided_over(SimpleNamespace(rank=rank, nranks=processes)):
                sequences.share(columns(seqlen), causal=True)
                held.append(sequences.own(paddle.arange(seqlen).unsqueeze(0))[0].tolist())
                assert sequences.seqlen() == seqlen
        assert all(held)
        assert sorted(sum(held, [])) == list(range(seqlen))


def test_a_batch_with_fewer_tokens_than_processes_is_refused():
    with sequences.divided_over(SimpleNamespace(rank=0, nranks=4)), pytest.raises(DataError, match="set pad_to_mult"):
        sequences.share(columns(3), causal=True)


def test_without_a_group_everything_is_returned_as_it_is():
    rows = paddle.rand([1, 5])
    assert all(function(rows) is rows for function in (sequences.own, sequences.whole, sequences.total))
    assert sequences.seqlen() == 0
