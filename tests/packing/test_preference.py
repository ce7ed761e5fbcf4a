"""Packs of questions with their answers: layout, masks between answers, and counts of lost tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask.masks import ColumnMask, share_question
from paddle_flashmask.packing import (
    KTOCollator,
    PreferenceCollator,
    RewardCollator,
    pack_kto,
    pack_preference,
    pack_reward,
    stream_answers,
    with_kl_answers,
)

LENGTH = st.integers(1, 6)
PAIRS = st.lists(st.tuples(LENGTH, LENGTH, LENGTH), min_size=1, max_size=8)
RANKED = st.lists(st.tuples(LENGTH, st.lists(LENGTH, min_size=2, max_size=4)), min_size=1, max_size=6)


def tokens(row: int, part: int, count: int) -> list[int]:
    """Token values that identify the row and the part."""
    return [1000 * row + 100 * part + t for t in range(count)]


def pair_rows(pairs) -> list[dict]:
    keys = ("prompt", "chosen", "rejected")
    return [
        {k: tokens(i, part, n) for part, (k, n) in enumerate(zip(keys, ns, strict=True))} for i, ns in enumerate(pairs)
    ]


def ranked_rows(ranked) -> list[dict]:
    return [
        {"prompt": tokens(i, 0, p), "answers": [tokens(i, 1 + a, n) for a, n in enumerate(ns)]}
        for i, (p, ns) in enumerate(ranked)
    ]


def brute_force_mask(documents: list[list[int]], size: int) -> np.ndarray:
    """Dense mask of documents [shared length, answer lengths ...], from the owner of each token."""
    owner, start = [], 0
    for d, (shared, *answers) in enumerate(documents):
        owner += [(d, 0)] * shared + [(d, a + 1) for a, n in enumerate(answers) for _ in range(n)]
        start += shared + sum(answers)
    visible = np.zeros((size, size), dtype=bool)
    for query, (d, part) in enumerate(owner):
        for key in range(query + 1):
            visible[query, key] = owner[key][0] == d and owner[key][1] in (0, part)
    return visible


def check_masks(collator, packs, documents: list[list[list[int]]], size: int) -> None:
    expected = np.stack([brute_force_mask(one, size) for one in documents])[:, None]
    columns = collator(0, length=size)(packs)["startend_row_indices"]
    assert (columns.dtype, columns.shape) == (np.int32, (len(packs), 1, size, 1))
    np.testing.assert_array_equal(ColumnMask(columns, causal=True, seqlen_q=size).to_dense(), expected)
    np.testing.assert_array_equal(collator(0, length=size, mask="dense")(packs)["attention_mask"], expected)
    assert [pack.visible_pairs for pack in packs] == expected.sum(axis=(1, 2, 3)).tolist()


@given(pairs=PAIRS, extra=st.integers(0, 4), order=st.sampled_from(["sequential", "first_fit_decreasing", "single"]))
def test_pairs_keep_their_tokens_labels_positions_and_mask(pairs, extra, order):
    packed = pack_preference(pair_rows(pairs), 20, order=order)
    size = max(map(len, packed)) + extra
    batch = PreferenceCollator(9, length=size)(packed[:])
    documents, seen = [[] for _ in packed], []
    for b, chosen, rejected, end in batch["response_indices"]:
        (row,) = {t // 1000 for t in batch["labels"][b, chosen:end]}
        seen.append(row)
        p, c, r = pairs[row]
        assert (rejected - chosen, end - rejected) == (c, r)
        prompt = tokens(row, 0, p)
        start = chosen - (p - 1)
        np.testing.assert_array_equal(batch["input_ids"][b, start:chosen], prompt[:-1])
        for part, (first, last) in enumerate(((chosen, rejected), (rejected, end)), start=1):
            answer = tokens(row, part, last - first)
            np.testing.assert_array_equal(batch["input_ids"][b, first:last], [prompt[-1], *answer[:-1]])
            np.testing.assert_array_equal(batch["labels"][b, first:last], answer)
            np.testing.assert_array_equal(batch["position_ids"][b, first:last], np.arange(p - 1, p - 1 + last - first))
        np.testing.assert_array_equal(batch["position_ids"][b, start:chosen], np.arange(p - 1))
        documents[b].append([p - 1, c, r])
    assert sorted(seen) == list(range(len(pairs)))
    for b, pack in enumerate(packed):
        assert (batch["input_ids"][b, len(pack) :] == 9).all() and (batch["labels"][b, len(pack) :] == -100).all()
    assert (batch["labels"] != -100).sum() == sum(c + r for _, c, r in pairs)
    assert packed.report.tokens == sum(p - 1 + c + r for p, c, r in pairs)
    assert packed.report.efficiency == packed.report.tokens / (20 * len(packed))
    check_masks(PreferenceCollator, packed[:], documents, size)


@given(ranked=RANKED)
def test_ranked_answers_are_scored_at_their_last_token(ranked):
    packed = pack_reward(ranked_rows(ranked), 40)
    batch = RewardCollator(0)(packed[:])
    assert "labels" not in batch
    found = {}
    for b, place, question in batch["answer_places"]:
        found.setdefault(int(question), []).append(
            (int(batch["input_ids"][b, place]), int(batch["position_ids"][b, place]))
        )
    expected = [[(tokens(i, 1 + a, n)[-1], p + n - 1) for a, n in enumerate(ns)] for i, (p, ns) in enumerate(ranked)]
    assert sorted(found.values()) == sorted(expected)
    assert list(found) == list(range(len(ranked)))
    documents = []
    for pack in packed:
        first = pack.input_ids[np.cumsum(pack.document_lengths) - pack.document_lengths] // 1000
        documents.append([[ranked[i][0], *ranked[i][1]] for i in first])
        mask = share_question(documents[-1])
        np.testing.assert_array_equal(pack.key_ends, np.asarray(mask.startend_row_indices).reshape(-1))
    check_masks(RewardCollator, packed[:], documents, max(map(len, packed)) + 3)


@given(pairs=PAIRS.filter(lambda pairs: len(pairs) > 1))
def test_kto_takes_the_next_answer_for_its_reference_point(pairs):
    rows = [{"prompt": r["prompt"], "answer": r["chosen"], "desirable": i % 2} for i, r in enumerate(pair_rows(pairs))]
    packed = pack_kto(with_kl_answers(rows), 20)
    batch = KTOCollator(0)(packed[:])
    assert len(batch["response_indices"]) == len(pairs)
    for b, start, middle, end, desirable in batch["response_indices"]:
        row = int(batch["labels"][b, start]) // 1000
        after = (row + 1) % len(pairs)
        assert desirable == row % 2
        assert batch["labels"][b, start:middle].tolist() == rows[row]["answer"]
        assert batch["labels"][b, middle:end].tolist() == rows[after]["answer"]


@given(questions=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_kto_never_takes_an_answer_to_the_same_question(questions):
    rows = [{"prompt": [q], "answer": [i]} for i, q in enumerate(questions)]
    if len(set(questions)) == 1:
        with pytest.raises(ValueError, match="KTO needs at least two questions"):
            list(with_kl_answers(rows))
        return
    completed = list(with_kl_answers(rows))
    assert [row["answer"] for row in completed] == [row["answer"] for row in rows]
    assert all(questions[row["kl_answer"][0]] != row["prompt"][0] for row in completed)


@given(pairs=st.lists(st.tuples(*[st.integers(1, 20)] * 3), min_size=1, max_size=6), longest_prompt=st.integers(1, 15))
def test_cutting_keeps_the_prompt_with_its_answers_and_counts(pairs, longest_prompt):
    rows = pair_rows(pairs)
    packed = pack_preference(rows, 16, max_prompt_length=longest_prompt, too_long="truncate")
    report = packed.report
    assert report.packed_rows == len(pairs)
    assert report.tokens + report.truncated_tokens == sum(p - 1 + c + r for p, c, r in pairs)
    assert report.truncated_rows == sum(p - 1 + c + r > 16 for p, c, r in pairs)
    batch = PreferenceCollator(0)(packed[:])
    for b, chosen, rejected, end in batch["response_indices"]:
        row = rows[int(batch["labels"][b, chosen]) // 1000]
        assert batch["input_ids"][b, chosen] == batch["input_ids"][b, rejected] == row["prompt"][-1]
        assert batch["labels"][b, chosen:rejected].tolist() == row["chosen"][: rejected - chosen]
        assert batch["labels"][b, rejected:end].tolist() == row["rejected"][: end - rejected]
        assert rejected > chosen and end > rejected
        if len(row["prompt"]) + len(row["chosen"]) + len(row["rejected"]) - 1 <= 16:
            assert (rejected - chosen, end - rejected) == (len(row["chosen"]), len(row["rejected"]))


def test_known_cut():
    """The prompt is cut to its last tokens, then every answer to the length that all may have."""
    rows = [{"prompt": range(10), "chosen": range(100, 109), "rejected": range(200, 203)}]
    packed = pack_preference(rows, 12, max_prompt_length=5, too_long="truncate")
    assert packed[0].input_ids.tolist() == [5, 6, 7, 8, 9, *range(100, 104), 9, 200, 201]
    assert packed[0].labels.tolist()[9:] == [200, 201, 202] and len(packed[0]) == 12
    assert "1 row cut by 9 tokens in all" in str(packed.report)
    dropped = pack_preference(rows, 12)
    assert (len(dropped), dropped.report.dropped_rows) == (0, 1)
    with pytest.raises(ValueError, match="row 0 has 21 tokens, more than max_length = 12"):
        pack_preference(rows, 12, too_long="error")


@given(answers=st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=9), min_size=2, max_size=5))
def test_answers_are_cut_alike_and_those_that_are_the_same_are_left_out(answers):
    packed = pack_reward([{"prompt": [7, 8, 9], "answers": answers}], 12, max_prompt_length=2, too_long="truncate")
    report = packed.report
    different = list(map(list, dict.fromkeys(map(tuple, answers))))
    cut = sum(map(len, different)) > 9
    limits = [n for n in range(1, 10) if sum(min(n, len(answer)) for answer in different) <= 10] if cut else [9]
    kept = list(map(list, dict.fromkeys(tuple(answer[: limits[-1]]) for answer in different)))
    if len(kept) < 2 or len(different) < 2:
        assert (len(packed), report.dropped_rows, report.equal_answer_rows, report.truncated_rows) == (0, 1, 1, 0)
        assert str(report).endswith("; 1 row dropped, whose answers are the same")
        return
    pack = packed[0]
    assert [pack.input_ids[start:end].tolist() for _, start, end in pack.answers] == kept
    assert (report.dropped_rows, report.equal_answers) == (0, len(answers) - len(kept))
    assert (report.truncated_rows, len(pack) + report.truncated_tokens) == (cut, 3 + sum(map(len, different)))
    assert ("left out, the same as a better one" in str(report)) == (len(kept) < len(answers))


def test_a_pair_is_dropped_where_its_answers_are_the_same_after_the_cut():
    """Answers of equal length were cut to different ones, and trained as chosen and rejected."""
    rows = [
        {"prompt": [1], "chosen": [5, 6, 7], "rejected": [5, 6, 7]},
        {"prompt": [1], "chosen": [5, 6, 7, 8], "rejected": [5, 6, 7, 9]},
        {"prompt": [1], "chosen": [5, 6], "rejected": [5, 7]},
        {"prompt": range(9), "chosen": [5], "rejected": [7]},
    ]
    packed = pack_preference(rows, 7, max_prompt_length=1, too_long="truncate")
    assert (packed.report.packed_rows, packed.report.equal_answer_rows, packed.report.truncated_rows) == (2, 2, 1)
    dropped = pack_preference(rows, 7)
    assert (dropped.report.packed_rows, dropped.report.dropped_rows, dropped.report.equal_answer_rows) == (1, 3, 1)
    assert str(dropped.report).endswith("; 2 rows dropped, longer than 7; 1 row dropped, whose answers are the same")


def test_the_answers_of_a_kto_row_may_be_the_same():
    """They belong to different questions."""
    row = {"prompt": [1], "answer": [5], "kl_answer": [5], "desirable": True}
    assert pack_kto([row], 8).report.packed_rows == 1


@given(pairs=PAIRS, buffer_rows=st.integers(1, 4))
def test_a_stream_packs_each_buffer_like_a_map(pairs, buffer_rows):
    rows = pair_rows(pairs)
    stream = stream_answers("preference", rows, 20, buffer_rows=buffer_rows)
    streamed = [pack.input_ids.tolist() for pack in stream]
    expected = []
    for start in range(0, len(rows), buffer_rows):
        expected += [pack.input_ids.tolist() for pack in pack_preference(rows[start : start + buffer_rows], 20)]
    assert streamed == expected == [pack.input_ids.tolist() for pack in stream]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack_preference([{"prompt": [1], "chosen": [1]}], 4), "row 0 has no 'rejected'"),
        (lambda: pack_preference([{"prompt": [], "chosen": [1], "rejected": [1]}], 4), "row 0: prompt has no tokens"),
        (
            lambda: pack_preference([{"prompt": [1], "chosen": [-100, 1], "rejected": [1]}], 9, share_prefixes=True),
            r"row 0: chosen must lie in \[0, 2\^31\); got -100 to 1",
        ),
        (
            lambda: pack_kto([{"prompt": [2**31], "answer": [1], "kl_answer": [1], "desirable": 1}], 9),
            "row 0: prompt must",
        ),
        (lambda: pack_reward([{"prompt": [1], "answers": [[1]]}], 4), "at least two, best first; got 1"),
        (lambda: pack_reward([{"prompt": [1], "answers": [[1], []]}], 4), r"answers\[1\] has no tokens"),
        (lambda: pack_preference([], 4, max_prompt_length=0), "max_prompt_length must be at least 1; got 0"),
        (lambda: pack_preference([], 4, order="best"), "order must be one of"),
        (lambda: stream_answers("dpo", [], 4), "kind must be one of preference, reward, kto; got 'dpo'"),
        (lambda: list(with_kl_answers([{"prompt": [1], "answer": [1]}] * 2)), "KTO needs at least two questions"),
        (
            lambda: pack_reward([{"prompt": [1], "answers": [[1], [2], [3], [4]]}], 4, too_long="truncate"),
            "row 0: 4 answers do not fit into max_length = 4",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
