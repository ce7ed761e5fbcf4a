from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._assemble import column_mask
from ._inputs import Padding, integer, is_list, lay_out
from .column_mask import ColumnMask

QuestionWithAnswers = Sequence[int]
"""[question length, first answer length, second answer length, ...]"""

Groups = Sequence[QuestionWithAnswers] | Sequence[Sequence[QuestionWithAnswers]]


def share_question(groups: Groups, seqlen: int | None = None, *, padding: Padding = "hidden") -> ColumnMask:
    """Questions with several answers each: an answer sees its question and itself, never another answer (arXiv
    2410.01359, figure 1, mask 5; for DPO and reward models).

    Args:
        groups: a list of [question, answer 1, answer 2, ...] lengths in order, or one such list per batch row.
            Everything is causal, and groups are blind to each other.
        seqlen: S (default: the longest row). ValueError if the groups hold more.
        padding: tokens after the last group see nothing ("hidden") or form one more document ("document").

    Returns:
        Values (LTS), causal.

    Example:
        A question of 4 tokens with two answers of 3: ``share_question([[4, 3, 3]])``.
    """
    rows = _rows(groups)
    pieces = [[length for group in row for length in group] for row in rows]
    layout = lay_out(pieces, seqlen, padding)
    # The tokens of a question are seen to the end of the group: this much longer than the question itself.
    beyond = [[more for group in row for more in (sum(group[1:]), *[0] * (len(group) - 1))] for row in rows]
    if padding == "document":
        beyond = [[*row, 0] for row in beyond]
    return column_mask(layout.end + layout.spread(beyond), causal=True, seqlen=layout.seqlen)


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
