from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _columns
from ._assemble import padded_mask
from ._inputs import Padding, integer, is_list, lay_out
from .column_mask import ColumnMask

QuestionWithAnswers = Sequence[int]
"""[question length, first answer length, second answer length, ...]"""

Groups = Sequence[QuestionWithAnswers] | Sequence[Sequence[QuestionWithAnswers]]


def share_question(groups: Groups, seqlen: int | None = None, *, padding: Padding = "hidden") -> ColumnMask:
    """Preference and reward training (DPO, reward models): the answers to a question share its keys and do not see
    each other (arXiv 2410.01359, figure 1, mask 5).

    Attention is causal, and groups are blind to each other. A group lists the length of the question, then those of
    its answers.

    Args:
        groups: a list of [question, answer 1, answer 2, ...] lengths in order, or one such list per batch row.
        seqlen: S (default: the longest row).
        padding: tokens after the last group see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS), causal.

    Raises:
        TypeError: lengths that are not integers, or not in lists.
        ValueError: a negative length, an empty group, groups that do not fit into ``seqlen``, or another ``padding``.

    Example:
        A question of 4 tokens with two answers of 3: ``share_question([[4, 3, 3]])``.
    """
    rows = _rows(groups)
    seqlen, rest = lay_out([[sum(group) for group in row] for row in rows], seqlen, padding)
    bounds = [_columns.share_question([*row, *([n] for n in last)]) for row, last in zip(rows, rest, strict=True)]
    return padded_mask(bounds, causal=True, seqlen=seqlen)


def _rows(groups: Any) -> list[list[list[int]]]:
    expected = "groups must be a list of [question, answer, ...] lengths or one such list per batch row"
    if not is_list(groups) or not all(is_list(item) for item in groups):
        raise TypeError(f"{expected}, got {groups!r}")
    batched = len(groups) > 0 and all(is_list(group) for row in groups for group in row)
    if not batched:
        groups = [groups]
    rows = []
    for b, row in enumerate(groups):
        name = f"groups[{b}]" if batched else "groups"
        if not all(is_list(group) for group in row):
            raise TypeError(f"{expected}, got {row!r}")
        for g, group in enumerate(row):
            if len(group) == 0:
                raise ValueError(f"{name}[{g}] must hold at least a question length, got an empty list")
        rows.append([[integer(f"{name}[{g}][{p}]", n) for p, n in enumerate(group)] for g, group in enumerate(row)])
    return rows
