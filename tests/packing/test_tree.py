"""Packs of prefix trees: every sequence is on a path of its pack, with its positions, labels and weight."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddle_flashmask import masks
from paddle_flashmask.packing import (
    IGNORED_LABEL,
    ORDERS,
    RolloutCollator,
    SFTCollator,
    TreePack,
    pack_sft,
    pack_tree,
    stream_tree,
)

LONGEST = 12
TEXTS = st.lists(st.integers(0, 2), min_size=2, max_size=LONGEST + 1)


@st.composite
def rows_of_text(draw: st.DrawFn) -> list[dict]:
    """Draw texts of three tokens, which share many prefixes, with any places learned and weights of both signs."""
    rows = []
    for text in draw(st.lists(TEXTS, max_size=12)):
        learns = draw(st.lists(st.booleans(), min_size=len(text) - 1, max_size=len(text) - 1))
        labels = [token if learn else IGNORED_LABEL for token, learn in zip(text[1:], learns, strict=True)]
        weight = draw(st.sampled_from([1.0, 2.0, -1.0, 0.0, -0.5]))
        rows.append({"input_ids": text[:-1], "labels": labels, "weight": weight})
    return rows


def places_of(row: dict) -> list[tuple[tuple[int, ...], int]]:
    """Each place of a row as all tokens up to it, and the token after it (-100 after the last, if unlearned)."""
    ids, labels = row["input_ids"], row["labels"]
    after = [*ids[1:], IGNORED_LABEL]
    return [(tuple(ids[: i + 1]), label if label != IGNORED_LABEL else after[i]) for i, label in enumerate(labels)]


def paths_of(pack: TreePack) -> list[np.ndarray]:
    """The places that each place of a pack sees, from the mask alone."""
    ends = pack.key_ends
    return [np.flatnonzero((np.arange(len(pack)) <= place) & (ends > place)) for place in range(len(pack))]


@pytest.mark.parametrize("order", ORDERS)
@given(rows=rows_of_text(), seed=st.none() | st.integers(0, 9), max_length=st.integers(LONGEST, 40))
def test_losses_are_those_of_every_sequence(order: str, rows: list[dict], seed: int | None, max_length: int) -> None:
    """For a loss of any function of (tokens up to a place, label), packs sum to the weighted sequences."""
    expected: dict = defaultdict(lambda: np.zeros(2))
    for row in rows:
        for (path, following), label in zip(places_of(row), row["labels"], strict=True):
            if label != IGNORED_LABEL:
                expected[path, following] += (row["weight"], 1)
    found: dict = defaultdict(lambda: np.zeros(2))
    packed = pack_tree(rows, max_length, order=order, seed=seed)
    for pack in packed:
        assert len(pack) <= max_length
        for place, path in enumerate(paths_of(pack)):
            assert pack.position_ids[path].tolist() == list(range(len(path)))
            key = tuple(pack.input_ids[path].tolist()), int(pack.labels[place])
            if pack.label_counts[place]:
                found[key] += (pack.label_weights[place], pack.label_counts[place])
            else:
                assert (pack.labels[place], pack.label_weights[place]) == (IGNORED_LABEL, 0)
    assert set(found) == set(expected)
    for key, sums in expected.items():
        np.testing.assert_allclose(found[key], sums)


@given(rows=rows_of_text(), max_length=st.integers(LONGEST, 60))
def test_the_report_counts_every_token(rows: list[dict], max_length: int) -> None:
    packed = pack_tree(rows, max_length)
    report = packed.report
    distinct = {(path, following) for row in rows for path, following in places_of(row)}
    assert (report.rows, report.packed_rows) == (len(rows), len(rows))
    assert report.sequence_tokens == sum(len(row["input_ids"]) for row in rows)
    assert report.tokens == sum(map(len, packed)) == len(distinct) + report.repeated_tokens
    assert report.trees == sum(len(pack.document_lengths) for pack in packed)
    assert (report.split_trees == 0) == (report.trees == len({p for p in distinct if len(p[0]) == 1}))
    assert report.visible_pairs == sum(len(path) for pack in packed for path in paths_of(pack))
    assert report.to_dict()["sharing"] == report.sharing == (report.sequence_tokens / report.tokens if rows else 1)


@given(rows=rows_of_text(), seed=st.integers(0, 9))
def test_a_seed_decides_the_packs(rows: list[dict], seed: int) -> None:
    first, again = (pack_tree(rows, 30, seed=seed) for _ in range(2))
    assert [pack.input_ids.tolist() for pack in first] == [pack.input_ids.tolist() for pack in again]


@given(rows=rows_of_text())
def test_a_stream_packs_its_buffers(rows: list[dict]) -> None:
    stream = stream_tree(rows, 30, buffer_rows=4)
    expected = [pack for start in range(0, len(rows), 4) for pack in pack_tree(rows[start : start + 4], 30)]
    for _ in range(2):
        packs = list(stream)
        assert [pack.input_ids.tolist() for pack in packs] == [pack.input_ids.tolist() for pack in expected]
    assert stream.report.sequence_tokens == sum(len(row["input_ids"]) for row in rows)


def example_rows() -> list[dict]:
    """A prompt of three tokens with three answers, two of which share a token."""
    rows = []
    for answer in ([10, 11], [10, 12, 13], [20]):
        text = [1, 2, 3, *answer]
        rows.append({"input_ids": text[:-1], "labels": [IGNORED_LABEL] * 2 + text[3:]})
    return rows


def test_the_token_before_a_branch_heads_each_branch() -> None:
    (pack,) = pack_tree(example_rows(), 64)
    assert pack.input_ids.tolist() == [1, 2, 3, 10, 10, 12, 3]
    assert pack.position_ids.tolist() == [0, 1, 2, 3, 3, 4, 2]
    assert pack.labels.tolist() == [IGNORED_LABEL, IGNORED_LABEL, 10, 11, 12, 13, 20]
    assert pack.label_counts.tolist() == [0, 0, 2, 1, 1, 1, 1]
    assert pack.key_ends.tolist() == [7, 7, 6, 4, 6, 6, 7]
    tree = masks.prefix_tree([-1, 0, 1, 1, 0], [2, 1, 1, 2, 1])
    np.testing.assert_array_equal(pack.columns, tree.startend_row_indices[0, 0])


def test_a_tree_that_is_too_long_repeats_its_prefix() -> None:
    packed = pack_tree(example_rows(), 5)
    assert [pack.input_ids.tolist() for pack in packed] == [[1, 2, 3, 10, 12], [1, 2, 3, 10, 3]]
    report = packed.report
    assert (report.trees, report.split_trees, report.repeated_tokens, report.sequence_tokens) == (2, 1, 3, 12)
    assert "12 tokens shared in 2 trees, 1.20 to 1; 1 tree split, with 3 tokens repeated" in str(report)


@pytest.mark.parametrize("order", ["sequential", "first_fit_decreasing"])
def test_a_tree_is_split_where_least_is_shared(order: str) -> None:
    """A text of two tokens before every row does not divide prompts whose rollouts fit into a pack."""
    rows = []
    for prompt in range(7):
        for rollout in range(4):
            text = [1, 2, *[10 + prompt] * 5, 20 + rollout, 30 + prompt, 40]
            rows.append({"input_ids": text[:-1], "labels": text[1:]})
    rows = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    packed = pack_tree(rows, 45, order=order)  # each prompt has 18 tokens, one of them in all
    prompts = [sorted({*pack.input_ids.tolist()} & {*range(10, 20)}) for pack in packed]
    assert sorted(itertools.chain.from_iterable(prompts)) == [*range(10, 17)]
    assert sorted(map(len, packed)) == [18, 35, 35, 35]
    assert packed.report.repeated_tokens == 3 and packed.report.split_trees == 1


def test_rows_that_share_nothing_are_packed_as_documents() -> None:
    rows = [{"input_ids": [i, 7, 8], "labels": [7, 8, 9]} for i in range(6)]
    trees, documents = pack_tree(rows, 8, order="sequential"), pack_sft(rows, 8, order="sequential")
    for tree, document in zip(trees, documents, strict=True):
        for name in ("input_ids", "labels", "position_ids", "document_lengths", "columns"):
            np.testing.assert_array_equal(getattr(tree, name), getattr(document, name))
        assert (tree.label_weights == 1).all()


@pytest.mark.parametrize("rule", ["drop", "truncate"])
def test_too_long_rows_are_counted(rule: str) -> None:
    rows = [*example_rows(), {"input_ids": [1] * 9, "labels": [1] * 9}]
    report = pack_tree(rows, 8, too_long=rule).report
    if rule == "drop":
        assert (report.dropped_rows, report.packed_rows, report.sequence_tokens) == (1, 3, 12)
    else:
        assert (report.truncated_rows, report.truncated_tokens, report.sequence_tokens) == (1, 1, 20)


@pytest.mark.parametrize("share_prefixes", [True, False])
@given(rows=rows_of_text(), max_length=st.integers(LONGEST - 3, 40))
def test_values_stay_with_their_labels(share_prefixes: bool, rows: list[dict], max_length: int) -> None:
    """Each label of each sequence has its numbers, whoever else has the label; rows may be cut."""
    for number, row in enumerate(rows):
        row["values"] = {"row": number, "step": np.arange(len(row["labels"]))}
    packed = pack_tree(rows, max_length, too_long="truncate", share_prefixes=share_prefixes)
    found = []
    for pack in packed:
        values, paths = pack.values, paths_of(pack)
        numbers = (values.places, values.sequences, values.numbers["row"], values.numbers["step"])
        for place, sequence, number, step in zip(*numbers, strict=True):
            path = paths[place]
            row = rows[int(number)]
            assert len(path) == step + 1 and pack.input_ids[path].tolist() == row["input_ids"][: len(path)]
            assert pack.labels[place] == row["labels"][int(step)] and sequence < pack.sequences
            found.append((int(number), int(step)))
    wanted = [
        (number, step)
        for number, row in enumerate(rows)
        for step, label in enumerate(row["labels"][:max_length])
        if label != IGNORED_LABEL
    ]
    assert sorted(found) == wanted
    if not share_prefixes:
        assert packed.report.sharing == 1 and packed.report.trees == len(rows)


def test_rows_have_values_of_the_same_names() -> None:
    rows = example_rows()
    assert pack_tree(rows, 64)[0].values is None
    rows[1]["values"] = {"a": 1}
    with pytest.raises(ValueError, match=r"all rows must have values of the same names; got \[\] and \['a'\]"):
        pack_tree(rows, 64)


def test_the_collator_numbers_the_sequences_of_a_batch() -> None:
    rows = [{**row, "values": {"advantages": number}} for number, row in enumerate(example_rows())]
    (first,) = pack_tree(rows, 64)
    (second,) = pack_tree([{"input_ids": [5], "labels": [6], "values": {"advantages": -2}}], 64)
    batch = RolloutCollator(pad_token_id=0)([first, second])
    assert batch["label_places"].tolist() == [
        *([0, 2, 0], [0, 3, 0]),
        *([0, 2, 1], [0, 4, 1], [0, 5, 1]),
        *([0, 6, 2], [1, 0, 3]),
    ]
    assert batch["advantages"].tolist() == [0, 0, 1, 1, 1, 2, -2] and batch["advantages"].dtype == np.float32
    assert "label_weights" not in batch and "label_counts" not in batch


@pytest.mark.parametrize("name", ["input_ids", "labels", "label_places", "startend_row_indices"])
def test_a_value_does_not_replace_a_key_of_the_batch(name: str) -> None:
    packed = pack_tree([{**row, "values": {name: 7}} for row in example_rows()], 64)
    with pytest.raises(ValueError, match=f"a value may not be called '{name}'"):
        RolloutCollator(pad_token_id=0)(packed[:1])


@pytest.mark.parametrize("pack", [pack_tree, pack_sft])
def test_terms_of_a_loss_need_values(pack) -> None:
    with pytest.raises(ValueError, match="needs packs of pack_tree whose rows have 'values'"):
        RolloutCollator(pad_token_id=0)(pack(example_rows(), 64)[:1])


def test_the_collator_pads_weights_and_counts() -> None:
    packs = [*pack_tree(example_rows(), 64), *pack_tree([{"input_ids": [5], "labels": [6], "weight": -2}], 64)]
    batch = SFTCollator(pad_token_id=0, length=9)(packs)
    assert batch["label_weights"].dtype == np.float32
    assert batch["label_weights"].tolist() == [[0, 0, 2, 1, 1, 1, 1, 0, 0], [-2] + [0] * 8]
    assert batch["label_counts"].tolist() == [[0, 0, 2, 1, 1, 1, 1, 0, 0], [1] + [0] * 8]
    assert batch["startend_row_indices"][1, 0, :, 0].tolist() == [1] + [0] * 8


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [1]}, "row 1 has no 'labels'"),
        ({"input_ids": [], "labels": []}, "row 1 has no tokens"),
        ({"input_ids": [1, 2], "labels": [2]}, r"row 1: input_ids and labels must be .* got shapes \[2\] and \[1\]"),
        ({"input_ids": [-1], "labels": [2]}, r"row 1: input_ids must lie in \[0, 2\^31\).*; got -1 to -1"),
        ({"input_ids": [1], "labels": [2**31]}, "row 1: labels must lie in"),
        ({"input_ids": [1], "labels": [-7]}, "row 1: labels must lie in .* got -7 to -7"),
        ({"input_ids": [1], "labels": [2], "weight": float("nan")}, "row 1: weight must be a number .* got nan"),
        ({"input_ids": [1], "labels": [2], "weight": 1e39}, "row 1: weight must be .* finite in float32; got 1e[+]39"),
        ({"input_ids": [1], "labels": [2], "weight": None}, "row 1: weight must be a number .* got None"),
        ({"input_ids": [1], "labels": [2], "weight": "2"}, "row 1: weight must be a number .* got '2'"),
        ({"input_ids": [1], "labels": [2], "weight": 10**400}, "row 1: weight must be a number .* got 1000"),
        (
            {"input_ids": [1], "labels": [2], "values": {"a": [1, 2]}},
            r"row 1: a must be a number, or one for each of the 1 tokens; got shape \[2\]",
        ),
        ({"input_ids": [1], "labels": [2], "values": {"a": np.inf}}, "row 1: a must be finite in float32 at every"),
        ({"input_ids": [1], "labels": [2], "values": {"a": 1e39}}, "row 1: a must be finite in float32 at every"),
        ({"input_ids": [1] * 9, "labels": [1] * 9}, "row 1 has 9 tokens, more than max_length = 8"),
    ],
)
def test_bad_rows(row: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack_tree([{"input_ids": [1], "labels": [2]}, row], 8, too_long="error")
