"""Rows with the keys of another task, which contradict what would be learned, are refused by name."""

from __future__ import annotations

import json

import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.data.rollouts import RolloutLines
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import dpo, kto, rm

FORMS = {"dpo": dpo.FORM, "rm": rm.FORM, "kto": kto.FORM}
USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
OTHER = {"role": "assistant", "content": "c"}
SFT = {
    "messages": {"messages": [USER, ANSWER]},
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    "alpaca": {"instruction": "a", "output": "b"},
    "completion": {"prompt": "a", "completion": "b"},
    "src": {"src": "a", "tgt": "b"},
    "answers": {"prompt": "a", "answers": ["b", "c"]},
}
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
WANTED = {"prompt": "a", "completion": "b", "label": True}
ROLLOUT = {"prompt": "a", "answers": ["b"], "advantages": [1]}


def parse(task: str, row: dict):
    record = json.dumps(row).encode()
    if task in FORMS:
        lines = PreferenceLines.__new__(PreferenceLines)
        lines.form = FORMS[task]
        return lines.parse(record, "file:1")
    return (RolloutLines if task == "policy" else SFTLines).parse(None, record, "file:1")


@pytest.mark.parametrize("form", SFT)
@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"label": False}, "'label' = False is for the key task = 'kto'; here answers that are not wanted are learned"),
        ({"label": 0}, "'label' = 0 is for the key task = 'kto'"),
        ({"label": "False"}, "'label' = 'False' is for the key task = 'kto'"),
        ({"kto_tag": True}, "'kto_tag' is for the key task = 'kto'"),
        ({"rejected": "c"}, "'rejected' is for the keys task = 'dpo' or 'rm'"),
        ({"rejected_response": "c"}, "'rejected_response' is for the keys task = 'dpo' or 'rm'"),
        ({"chosen": "c", "rejected": "b"}, "'chosen' is "),
        ({"response": ["b", "c"], "sort": [1, 0]}, "'response' with 'sort' is for the keys task"),
        ({"log_probabilities": [[-1]]}, "'log_probabilities' without 'advantages'"),
    ],
)
def test_an_answer_that_another_task_would_not_learn_is_refused_in_every_form(form, keys, text):
    with pytest.raises(DataError, match=f"^file:1: {text}"):
        parse("sft", {**SFT[form], **keys})


@pytest.mark.parametrize("form", [form for form in SFT if form != "answers"])
@pytest.mark.parametrize(
    "keys",
    [
        {"chosen": "b", "rejected": "c"},
        {"chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
        {"chosen": {"from": "gpt", "value": "b"}, "rejected": {"from": "gpt", "value": "c"}},
        {"label": True},
        {"label": "sports"},
        {"response": "b"},
    ],
)
def test_keys_that_agree_are_accepted(form, keys):
    """As in data sets of preferences whose `messages` are the chosen conversation."""
    (row,) = parse("sft", {**SFT[form], **keys})
    assert row.learned is None


@pytest.mark.parametrize(
    ("task", "row", "text"),
    [
        ("policy", {**ROLLOUT, "label": False}, "'label' = False is for the key task = 'kto'"),
        ("policy", {**ROLLOUT, "chosen": "b"}, "'chosen' is for the keys task = 'dpo' or 'rm'; here it would be"),
        ("dpo", {**PAIR, "kto_tag": True}, "'kto_tag' is for the key task = 'kto'; here answers are ranked"),
        ("rm", {**PAIR, "label": False}, "'label' = False is for the key task = 'kto'; here answers are ranked"),
        ("dpo", {**PAIR, "weight": 0.5}, "'weight' is for the keys task = 'sft' or 'policy'; here it would be ignored"),
        ("rm", {**PAIR, "weights": [1, 2]}, "'weights' is for the keys task"),
        ("dpo", {**PAIR, "advantages": [1, 2]}, "'advantages' is for the keys task"),
        (
            "dpo",
            {**PAIR, "completion": "d"},
            "'completion' beside 'chosen', from which it differs; it would be ignored",
        ),
        ("dpo", {"instruction": "a", "output": "c", "chosen": "b", "rejected": "c"}, "'output' beside 'chosen'"),
        ("kto", {**WANTED, "weight": 2}, "'weight' is for the keys task"),
        ("kto", {**WANTED, "output": "c"}, "'output' beside 'completion', from which it differs; it would be ignored"),
        ("kto", {**WANTED, "history": [["c", "d"]]}, "'prompt' and 'history' do not go together"),
        ("kto", {"src": "a", "response": "b", "sort": 1, "label": False}, "'sort' and 'label' do not go together"),
        ("dpo", {**PAIR, "history": [["c", "d"]]}, "'prompt' and 'history' do not go together"),
        ("dpo", {**PAIR, "input": "c"}, "'prompt' and 'input' do not go together"),
        ("rm", {**PAIR, "tgt": "b"}, "'prompt' and 'tgt' do not go together"),
        (
            "rm",
            {"src": "a", "response": ["b", "c"], "sort": [1, 0], "input": "d"},
            "'src' and 'input' do not go together",
        ),
        ("rm", {**PAIR, "margin": 0.5}, "'margin' has no effect here: the loss of this task has none"),
        ("kto", {**WANTED, "rejected": "c"}, "'rejected' is for the keys task = 'dpo' or 'rm'; here it would be"),
        (
            "dpo",
            {**PAIR, "chosen": [{**ANSWER, "loss": False}]},
            "'loss' = False in the answer of 'chosen', which is learned in any case",
        ),
        (
            "rm",
            {
                **SFT["sharegpt"],
                "conversations": [{"from": "human", "value": "a"}],
                "chosen": {"from": "gpt", "value": "b"},
            }
            | {"rejected": {"from": "gpt", "value": "c", "weight": 0}},
            "'weight' = 0 in the answer of 'rejected'",
        ),
        (
            "kto",
            {"messages": [USER, {**ANSWER, "train": False}], "label": True},
            "'train' = False in the answer of 'me",
        ),
        (
            "kto",
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "masked": True}]}
            | {"kto_tag": True},
            "'masked' = True in the answer of 'conversations'",
        ),
    ],
)
def test_keys_that_a_task_would_ignore_are_refused(task, row, text):
    with pytest.raises(DataError, match=f"^file:1: {text}"):
        parse(task, row)


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("dpo", {**PAIR, "completion": "b"}),
        ("dpo", {**PAIR, "label": "sports", "margin": 0.5}),
        ("kto", {**WANTED, "output": "b"}),
        ("dpo", {**PAIR, "prompt": [USER, {**ANSWER, "weight": 0}, USER]}),
        ("kto", {**WANTED, "prompt": [USER, {**ANSWER, "train": False}, USER]}),
    ],
)
def test_keys_that_a_task_has_no_use_for_are_accepted_where_they_agree(task, row):
    assert parse(task, row).answers[0] == ANSWER
