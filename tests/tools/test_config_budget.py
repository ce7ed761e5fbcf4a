"""Resource budgets computed from the tables of csrc/cuda/sm90."""

from __future__ import annotations

import pytest

from tools import config_budget
from tools.config_budget import Budget


@pytest.fixture(scope="module")
def rows() -> list[Budget]:
    return config_budget.budgets()


def test_forward_at_head_dim_128(rows: list[Budget]) -> None:
    """Two warpgroups of 64 rows each read the keys (32 KiB), their queries (16) and the values (32), and 64 KiB of keys
    and values are copied in: 14 bytes per pair. 256 multiply-adds per pair take an eighth of a clock."""
    (row,) = (r for r in rows if (r.kernel, r.head_dim, r.head_dim_v) == ("Forward", 128, 128))
    assert (row.tile_q, row.tile_k, row.consumers) == (128, 128, 2)
    assert row.bytes_per_pair == (2 * (32 + 16 + 32) + 64) * 1024 / 128**2
    assert row.clocks["tensor"] == 0.125 and row.clocks["exp2"] == 0.0625
    assert row.bound == "tensor"


def test_every_row_fits_a_multiprocessor(rows: list[Budget]) -> None:
    assert {row.kernel for row in rows} == {"Forward", "Backward"}
    for row in rows:
        assert row.shared_bytes <= 227 * 1024 and row.registers <= 64 * 1024
        assert row.live_registers <= row.consumer_registers
        assert row.bound in config_budget.markdown([row])
