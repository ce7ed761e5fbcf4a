"""Packing of preference data (DPO, reward models, KTO): all at once or as a stream.

Rows are questions with their answers: each by itself in share-question form, or together as prefix trees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .answer_tree import AnswerTreePack, assemble_trees, sequences_of
from .answers import AnswerPack, Question, assemble_questions, fit_question, tokens_of
from .branching import PrefixTree, Unit, trees_of
from .packed import PackedRows, PackedStream, Row, RowPacker, check_choices, pack_all, require_keys
from .packs import PackingReport
from .tree_layout import TreeReport

KINDS = ("preference", "reward", "kto")


@dataclass(frozen=True)
class _AnswerRows(RowPacker):
    kind: str
    max_prompt_length: int
    too_long: str

    def document(self, row: Row, report: PackingReport) -> Question | None:
        number = report.rows
        report.rows += 1
        question = getattr(self, f"_{self.kind}")(row, number)
        return fit_question(question, self.max_prompt_length, number, report, self.too_long)

    def assemble(self, documents: list[Question]) -> AnswerPack:
        return assemble_questions(documents)

    def _preference(self, row: Row, number: int) -> Question:
        require_keys(row, ("prompt", "chosen", "rejected"), number)
        prompt, *answers = (tokens_of(key, row[key], number) for key in ("prompt", "chosen", "rejected"))
        return Question(prompt, tuple(answers), repeat_last=True)

    def _reward(self, row: Row, number: int) -> Question:
        require_keys(row, ("prompt", "answers"), number)
        answers = tuple(tokens_of(f"answers[{i}]", answer, number) for i, answer in enumerate(row["answers"]))
        if len(answers) < 2:
            raise ValueError(f"row {number}: answers must hold at least two, best first; got {len(answers)}")
        return Question(tokens_of("prompt", row["prompt"], number), answers, repeat_last=False)

    def _kto(self, row: Row, number: int) -> Question:
        require_keys(row, ("prompt", "answer", "kl_answer", "desirable"), number)
        prompt, *answers = (tokens_of(key, row[key], number) for key in ("prompt", "answer", "kl_answer"))
        return Question(prompt, tuple(answers), repeat_last=True, desirable=bool(row["desirable"]))


class _AnswerTrees(_AnswerRows):
    """Rows that share a tree where they share tokens. The report counts their tokens in share-question form."""

    report_type = TreeReport

    def document(self, row: Row, report: TreeReport) -> Unit | None:
        number = report.rows
        question = super().document(row, report)
        if question is None:
            return None
        report.sequence_tokens += len(question)
        return sequences_of(question, number)

    def join(self, documents: list[Unit], report: TreeReport) -> list[PrefixTree]:
        return report.count_trees(trees_of(documents, report.max_length))

    def assemble(self, documents: list[PrefixTree]) -> AnswerTreePack:
        return assemble_trees(documents)


def pack_preference(
    rows: Iterable[Row],
    max_length: int,
    *,
    max_prompt_length: int | None = None,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    share_prefixes: bool = False,
) -> PackedRows:
    """Pack DPO pairs into sequences of at most `max_length` tokens.

    A pair whose answers are the same, before or after the cut, is dropped; the report counts it.

    Args:
        rows: mappings with `prompt`, `chosen` and `rejected`, integer sequences; an answer includes its end-of-text
            token. A row takes len(prompt) - 1 + len(chosen) + len(rejected) places: the last prompt token is at the
            head of both answers, because it predicts the first token of each.
        max_length: most tokens of a pack.
        max_prompt_length: with too_long="truncate", the number of prompt tokens that a cut row keeps (default: half of
            max_length). If the row is still too long, all its answers are cut to one length. Rows that fit are not cut.
        order: as for `pack_sft`.
        too_long: as for `pack_sft`. "drop" drops the prompt with all its answers.
        seed: as for `pack_sft`.
        share_prefixes: store tokens that rows or answers have in common at their start once, as prefix trees
            (`pack_tree`). The answers of a row stay in one pack. Where a tree is split, rows count as sharing what
            their first answers, each with its prompt, have in common.

    Returns:
        Packs with `answers` (question, start, end), chosen before rejected; with share_prefixes each is an
        `AnswerTreePack`.

    Raises:
        ValueError: a row that lacks a key or tokens, or an unknown order or rule.
    """
    return _pack("preference", rows, max_length, max_prompt_length, order, too_long, seed, share_prefixes)


def pack_reward(
    rows: Iterable[Row],
    max_length: int,
    *,
    max_prompt_length: int | None = None,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    share_prefixes: bool = False,
) -> PackedRows:
    """Pack ranked answers for a reward model. Arguments that are not named here are those of `pack_preference`.

    Args:
        rows: mappings with `prompt` and `answers`, two or more integer sequences, best first. A row takes len(prompt)
            plus the sum of their lengths: an answer is scored at its last token, which needs no label. Of answers that
            are the same only the best is kept.
    """
    return _pack("reward", rows, max_length, max_prompt_length, order, too_long, seed, share_prefixes)


def pack_kto(
    rows: Iterable[Row],
    max_length: int,
    *,
    max_prompt_length: int | None = None,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    share_prefixes: bool = False,
) -> PackedRows:
    """Pack KTO samples. Arguments that are not named here are those of `pack_preference`.

    Args:
        rows: mappings with `prompt`, `answer`, `desirable` (a bool) and `kl_answer`, the answer to another question,
            with which KTO estimates its reference point (see `with_kl_answers`).
    """
    return _pack("kto", rows, max_length, max_prompt_length, order, too_long, seed, share_prefixes)


def stream_answers(
    kind: str,
    rows: Iterable[Row],
    max_length: int,
    *,
    max_prompt_length: int | None = None,
    order: str = "first_fit_decreasing",
    too_long: str = "drop",
    seed: int | None = None,
    share_prefixes: bool = False,
    buffer_rows: int = 500,
) -> PackedStream:
    """Pack rows as `pack_preference`, `pack_reward` or `pack_kto` does, `buffer_rows` rows at a time.

    Args:
        kind: "preference", "reward" or "kto".
        rows: re-iterable if the stream is read more than once.
        buffer_rows: rows that are packed together. A pack never crosses a buffer.

    Raises:
        ValueError: an unknown kind, and as for `pack_preference`.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    packer = _packer(kind, max_length, max_prompt_length, order, too_long, share_prefixes)
    return PackedStream(rows, packer, max_length, order, seed, buffer_rows)


def with_kl_answers(rows: Iterable[Row]) -> Iterator[Row]:
    """Add to every KTO row, as `kl_answer`, the answer of the next row with another prompt.

    The last rows take theirs from the beginning. Only the rows of one run of equal prompts are held in memory.

    Raises:
        ValueError: a row that lacks a key, or all rows have the same prompt.
    """
    first = other = None  # the first row, and the first one with another prompt
    waiting: list[Row] = []
    for number, row in enumerate(rows):
        require_keys(row, ("prompt", "answer"), number)
        first = row if first is None else first
        if waiting and list(row["prompt"]) != list(waiting[0]["prompt"]):
            other = row if other is None else other
            yield from ({**earlier, "kl_answer": row["answer"]} for earlier in waiting)
            waiting = []
        waiting.append(row)
    if not waiting:
        return
    if other is None:
        raise ValueError("KTO needs at least two questions: the reference point uses the answer to another one")
    donor = first if list(first["prompt"]) != list(waiting[0]["prompt"]) else other
    yield from ({**row, "kl_answer": donor["answer"]} for row in waiting)


def _packer(
    kind: str, max_length: int, max_prompt_length: int | None, order: str, too_long: str, share_prefixes: bool
) -> _AnswerRows:
    check_choices(max_length, order, too_long)
    longest_prompt = max(1, max_length // 2) if max_prompt_length is None else max_prompt_length
    if longest_prompt < 1:
        raise ValueError(f"max_prompt_length must be at least 1; got {max_prompt_length}")
    return (_AnswerTrees if share_prefixes else _AnswerRows)(kind, longest_prompt, too_long)


def _pack(kind, rows, max_length, max_prompt_length, order, too_long, seed, share_prefixes) -> PackedRows:
    packer = _packer(kind, max_length, max_prompt_length, order, too_long, share_prefixes)
    return pack_all(rows, packer, max_length, order, seed)
