"""Visible keys of every query row as intervals, from the columns of a mask."""

from __future__ import annotations

import torch

from tools.gpu_check.outcome import NotRun

from .paper_masks import PaperMask

MOST_ENDPOINTS = 31
_CHUNK_ELEMENTS = 1 << 26


def row_endpoints(mask: PaperMask, device: torch.device) -> torch.Tensor:
    """Endpoints F of each row, int32 [n, S] with n odd: keys [0, F0), [F1, F2), [F3, F4) ... are visible.

    Rows with fewer intervals repeat their last endpoint. n is the least that fits every row.

    Raises:
        NotRun: more than MOST_ENDPOINTS are needed.
    """
    keys = torch.arange(mask.seqlen, device=device)
    hidden = [
        tuple(torch.from_numpy(bound.copy()).to(device) for bound in interval)
        for interval in mask.hidden_intervals(keys.cpu().numpy())
    ]
    chunk = max(1, _CHUNK_ELEMENTS // mask.seqlen)
    pieces = [_edges(mask.seqlen, hidden, keys[first : first + chunk]) for first in range(0, mask.seqlen, chunk)]
    # An interval from key 0 on is [0, F0); otherwise F0 = 0.
    shifts = [(edges[:, :1] != 0).any() for edges in pieces]
    from_zero = not any(bool(shift) for shift in shifts)
    width = max(edges.shape[1] for edges in pieces)
    count = max(1, width - 1 if from_zero else width + 1)
    if count > MOST_ENDPOINTS:
        raise NotRun(f"{mask.name}: {count} endpoints per row, more than {MOST_ENDPOINTS}")
    rows = []
    for edges in pieces:
        leading = edges[:, 1:] if from_zero else torch.nn.functional.pad(edges, (1, 0))
        last = leading[:, -1:] if leading.shape[1] else torch.zeros_like(edges[:, :1])
        rows.append(torch.cat([leading, last.expand(-1, count - leading.shape[1])], dim=1))
    return torch.cat(rows).T.contiguous().to(torch.int32)


def _edges(seqlen: int, hidden: list[tuple[torch.Tensor, ...]], rows: torch.Tensor) -> torch.Tensor:
    """Begin and end of each visible interval of these rows, [rows, 2 n] for at most n intervals, padded by the last."""
    row = rows[:, None]
    visible = torch.ones(len(rows), seqlen, dtype=torch.bool, device=rows.device)
    for start, end in hidden:
        visible &= ~((start[None] <= row) & (row < end[None]))
    padded = torch.nn.functional.pad(visible.to(torch.int8), (1, 1))
    at_row, key = (padded[:, 1:] != padded[:, :-1]).nonzero(as_tuple=True)
    counts = torch.bincount(at_row, minlength=len(rows))
    most = int(counts.max())
    place = torch.arange(len(key), device=rows.device) - (counts.cumsum(0) - counts)[at_row]
    edges = torch.zeros(len(rows), most, dtype=torch.int64, device=rows.device)
    edges[at_row, place] = key
    return torch.cummax(edges, dim=1).values if most else edges
