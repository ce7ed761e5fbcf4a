"""Preference rows as prefix trees: every answer is on a path of its pack, which holds all answers of its row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask.packing import (
    IGNORED_LABEL,
    AnswerTreePack,
    KTOCollator,
    PreferenceCollator,
    RewardCollator,
    pack_kto,
    pack_preference,
    pack_reward,
    stream_answers,
)

PACK = {"preference": pack_preference, "reward": pack_reward, "kto": pack_kto}
COLLATOR = {"preference": PreferenceCollator, "reward": RewardCollator, "kto": KTOCollator}
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=5)


@st.composite
def rows_of_kind(draw: st.DrawFn, kind: str) -> list[dict]:
    """Rows of two tokens, of which some continue the first answer of an earlier row, as rounds of a conversation do."""
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        answers = [draw(TOKENS) for _ in range(draw(st.integers(2, 4)) if kind == "reward" else 2)]
        prompt = draw(TOKENS)
        if rows and draw(st.booleans()):
            earlier = draw(st.sampled_from(rows))
            prompt = (earlier["prompt"] + answers_of(earlier)[0] + prompt)[:8]
        row = {
            "preference": {"chosen": answers[0], "rejected": answers[1]},
            "reward": {"answers": answers},
            "kto": {"answer": answers[0], "kl_answer": answers[1], "desirable": draw(st.booleans())},
        }[kind]
        rows.append({"prompt": prompt, **row})
    return rows


def answers_of(row: dict) -> list[list[int]]:
    if "answers" in row:
        return list(row["answers"])
    return [row[key] for key in ("chosen", "rejected", "answer", "kl_answer") if key in row]


def places_of(prompt: list[int], answer: list[int], kind: str) -> list[tuple[int, ...]]:
    """Each place as all tokens up to it, with the next one where that is a part of the place."""
    text = [*prompt, *answer]
    return [tuple(text[: n + (kind != "reward")]) for n in range(1, len(text) + (kind == "reward"))]


def path_to(pack: AnswerTreePack, place: int) -> np.ndarray:
    """The places that a place sees, from the mask alone."""
    return np.flatnonzero((np.arange(len(pack)) <= place) & (pack.key_ends > place))


@pytest.mark.parametrize("kind", PACK)
@given(data=st.data(), seed=st.none() | st.integers(0, 9), max_length=st.sampled_from([28, 40, 80]))
def test_every_answer_follows_its_question(kind: str, data, seed: int | None, max_length: int) -> None:
    rows = data.draw(rows_of_kind(kind))
    options = {"max_prompt_length": 8, "too_long": "truncate", "seed": seed}
    packed = PACK[kind](rows, max_length, share_prefixes=True, **options)
    apart = PACK[kind](rows, max_length, **options)
    found = []
    for pack in packed:
        assert len(pack) <= max_length and pack.document_lengths.sum() == len(pack)
        places, answers = pack.answer_tokens.T
        assert (np.diff(answers) >= 0).all() and (np.diff(pack.questions) >= 0).all()
        for question in range(pack.rows):
            texts = []
            for answer in np.flatnonzero(pack.questions == question):
                own = places[answers == answer]
                path = path_to(pack, own[-1])
                assert pack.position_ids[path].tolist() == list(range(len(path)))
                assert path[-len(own) :].tolist() == own.tolist()
                text = pack.input_ids[path].tolist()
                if kind == "reward":
                    texts.append((text[: -len(own)], text[-len(own) :]))
                else:
                    texts.append((text[: len(text) - len(own) + 1], pack.labels[own].tolist()))
                    assert [*texts[-1][0], *texts[-1][1][:-1]] == text
            mark = None if pack.desirable is None else bool(pack.desirable[question])
            found.append((texts, mark))
    wanted = []
    for pack in apart:
        for number in range(len(pack.document_lengths)):
            first, last = pack.document_lengths[:number].sum(), pack.document_lengths[: number + 1].sum()
            spans = [span for span in pack.answers.tolist() if span[0] == number]
            head = 0 if kind == "reward" else 1
            prompt = pack.input_ids[first : spans[0][1] + head].tolist()
            tokens = pack.input_ids if kind == "reward" else pack.labels
            mark = None if pack.desirable is None else bool(pack.desirable[number])
            wanted.append(([(prompt, tokens[start:end].tolist()) for _, start, end in spans], mark))
            assert spans[-1][2] == last
    assert sorted(found, key=str) == sorted(wanted, key=str)
    distinct = {place for texts, _ in wanted for text in texts for place in places_of(*text, kind)}
    report = packed.report
    if kind == "reward" or all(len(row["prompt"]) > 1 for row in rows):  # else answers may have no place in common
        assert report.tokens == len(distinct) + report.repeated_tokens
    assert report.sequence_tokens == apart.report.tokens and report.packed_rows == apart.report.packed_rows
    assert (report.dropped_rows, report.equal_answers) == (apart.report.dropped_rows, apart.report.equal_answers)
    stream = stream_answers(kind, rows, max_length, share_prefixes=True, **options)
    assert [pack.input_ids.tolist() for pack in stream] == [pack.input_ids.tolist() for pack in packed]


def conversation(kind: str) -> list[dict]:
    """Two rounds: the second question continues the first answer. Both answers of a round begin with one token."""
    rounds = [([1, 2], [5, 6, 0], [5, 7, 0]), ([1, 2, 5, 6, 0, 3], [8, 0], [8, 9, 0])]
    names = {
        "preference": lambda first, second: {"chosen": first, "rejected": second},
        "reward": lambda first, second: {"answers": [first, second]},
        "kto": lambda first, second: {"answer": first, "kl_answer": second, "desirable": first[0] == 8},
    }
    return [{"prompt": prompt, **names[kind](*answers)} for prompt, *answers in rounds]


def test_rounds_of_a_conversation_lie_once_in_a_pack() -> None:
    """The prompt before and the token after a branch are at the head of each branch, as in `pack_tree`."""
    packed = pack_preference(conversation("preference"), 32, share_prefixes=True)
    (pack,) = packed
    assert pack.input_ids.tolist() == [1, 2, 5, 6, 0, 3, 8, 8, 9, 5, 7]
    assert pack.labels.tolist() == [IGNORED_LABEL, 5, 6, 0, IGNORED_LABEL, 8, 0, 9, 0, 7, 0]
    assert (packed.report.sequence_tokens, packed.report.tokens) == (17, 11)
    assert "17 tokens shared in 1 tree, 1.55 to 1" in str(packed.report)
    batch = PreferenceCollator(pad_token_id=0)([pack, pack])
    assert "response_indices" not in batch
    places = batch["label_places"]
    assert [places[places[:, 2] == answer][:, 1].tolist() for answer in range(4)] == [
        *([1, 2, 3], [1, 9, 10]),
        *([5, 6], [5, 7, 8]),
    ]
    assert places[len(places) // 2 :].tolist() == [
        [1, place, answer + 4] for _, place, answer in places[: len(places) // 2]
    ]


def test_ranked_answers_are_scored_at_their_last_tokens() -> None:
    """A score needs no label, so that the token before a branch is not repeated."""
    (pack,) = pack_reward(conversation("reward"), 32, share_prefixes=True)
    assert pack.input_ids.tolist() == [1, 2, 5, 6, 0, 3, 8, 0, 9, 0, 7, 0]
    assert not pack.has_labels and np.flatnonzero(pack.learned).tolist() == [4, 7, 9, 11]
    batch = RewardCollator(pad_token_id=0)([pack, pack])
    assert batch["answer_places"].tolist() == [
        [b, place, 2 * b + question] for b in (0, 1) for place, question in ((4, 0), (11, 0), (7, 1), (9, 1))
    ]
    assert "labels" not in batch and "label_weights" not in batch


def test_answers_for_the_reference_point_are_not_learned() -> None:
    (pack,) = pack_kto(conversation("kto"), 32, share_prefixes=True)
    assert np.flatnonzero(pack.learned).tolist() == [1, 2, 3, 5, 6]
    assert KTOCollator(pad_token_id=0)([pack, pack])["desirable"].tolist() == [0, 1, 0, 1]


def test_the_answers_of_a_row_stay_in_one_pack() -> None:
    """Three rounds of a conversation that do not fit into one pack, and the earlier rounds repeated."""
    rows = conversation("preference")
    rows.append({"prompt": [*rows[1]["prompt"], 8, 0, 4], "chosen": [9, 9, 0], "rejected": [2, 9, 0]})
    packed = pack_preference(rows, 14, share_prefixes=True)
    assert [(len(pack), pack.rows) for pack in packed] == [(14, 1), (11, 2)]
    assert packed.report.repeated_tokens == 7 and packed.report.split_trees == 1
