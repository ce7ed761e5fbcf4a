"""Every rank raises, or none: refused arguments and arguments that differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import Group

from paddle_flashmask.distributed import PeerError
from paddle_flashmask.distributed.agreement import Shared, agree, refuse

SHARED = Shared(
    rows=(((0, 4),), ((4, 8),)),
    startend_row_indices=np.full((1, 1, 8, 1), 8, np.int32),
    causal=True,
    window_size=(-1, -1),
    batch_and_heads=(1, 2, 8, 2, 8, 8),
    dtype="paddle.float32",
    dropout=0.5,
    softmax_scale=0.25,
    learnable_sink=False,
    fixed_seed_offset=None,
    needs_gradients=True,
)


def outcome(function):
    try:
        return function()
    except (PeerError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def test_all_use_the_stream_of_the_first_rank() -> None:
    group = Group(3)
    assert group.run(lambda exchange: agree(exchange, SHARED, (exchange.rank, 7 + exchange.rank))) == [(0, 7)] * 3


def test_the_others_learn_who_refused() -> None:
    def program(exchange):
        if exchange.rank == 1:
            return refuse(exchange)
        return outcome(lambda: agree(exchange, SHARED, (0, 0)))

    first, second, third = Group(3).run(program)
    assert second is None
    assert (
        first
        == third
        == ("PeerError: ranks [1] of the group have refused their arguments; their errors name the reason")
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", (((0, 3),), ((3, 8),))),
        ("startend_row_indices", np.full((1, 1, 8, 1), 7, np.int32)),
        ("startend_row_indices", None),
        ("causal", False),
        ("dropout", 0.25),
        ("needs_gradients", False),
    ],
)
def test_what_differs_is_an_error_everywhere(name: str, value) -> None:
    def program(exchange):
        shared = replace(SHARED, **{name: value}) if exchange.rank == 2 else SHARED
        return outcome(lambda: agree(exchange, shared, (0, 0)))

    message = f"ValueError: {name} of ranks [2] differs from that of rank 0, expected the same on every rank"
    assert Group(3).run(program) == [message] * 3
