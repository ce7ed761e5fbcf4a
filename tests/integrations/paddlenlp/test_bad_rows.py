"""Rows that cannot be used are listed together, in plain words, with their file and line."""

from __future__ import annotations

import json

import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.preference_tokens import PreferenceTokens
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.data.rollouts import RolloutLines, RolloutTokens
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS, dpo, kto, rm

FORMS = {"dpo": dpo.FORM, "rm": rm.FORM, "kto": kto.FORM}
GOOD = {
    "sft": {"src": "a", "tgt": "b"},
    "dpo": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "rm": {"src": "a", "response": ["b", "c", "d"], "sort": [3, 2, 1]},
    "kto": {"prompt": "a", "completion": "b", "label": True},
    "policy": {"prompt": "a", "answers": ["b"], "advantages": [1]},
}
USER, BLANK = {"role": "user", "content": "a"}, {"role": "assistant", "content": "\n "}


def token_rows(task: str, tokenizer, folder, lines: list):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "train.json").write_text(text, encoding="utf-8")
    if task == "sft":
        return SFTTokens(SFTLines(str(folder), "train"), tokenizer, 40, 64)
    if task == "policy":
        return RolloutTokens(RolloutLines(str(folder), "train"), tokenizer, 40, 64)
    return PreferenceTokens(PreferenceLines(str(folder / "train.json"), FORMS[task]), tokenizer, 64)


@pytest.mark.parametrize("task", TASKS)
def test_all_bad_rows_are_listed(task, task_config, tokenizer, tmp_path):
    """Those that are no JSON, lack a key, or cannot be tokenized. A stream stops at the first."""
    record, good = TASKS[task], GOOD[task]
    arguments = record.arguments(task_config(task))
    lines = ["{", good, {}, good, '{"a": 1},', {**good, "extra": 1}, "[1]"]
    rows = token_rows(task, tokenizer, tmp_path, [good, *lines])
    with pytest.raises(DataError) as caught:
        record.packs(arguments, rows, lazy=False)
    first, *listed = str(caught.value).splitlines()
    assert first == "4 rows cannot be used:"
    assert [line.split("train.json:")[1].split(":")[0] for line in listed] == ["2", "4", "6", "8"]
    with pytest.raises(DataError, match="train.json:2: not valid JSON") as caught:
        list(record.packs(arguments, rows, lazy=True).packs)
    assert "\n" not in str(caught.value)


def test_rows_with_the_same_error_are_listed_together(tokenizer, tmp_path):
    lines = [GOOD["sft"], *[{"src": "a"}] * 57, {"src": "a", "tgt": ""}, "[1]", {"src": "a", "tgt": ""}]
    rows = token_rows("sft", tokenizer, tmp_path, lines)
    with pytest.raises(DataError) as caught:
        list(rows.checked())
    file = tmp_path / "train.json"
    assert str(caught.value).splitlines() == [
        "60 rows cannot be used:",
        f"  {file}: lines 2, 3, 4, 5, 6, ... (57 rows): no 'tgt'; the row has 'src'",
        f"  {file}: lines 59, 61: 'tgt' is empty",
        f"  {file}:60: expected a JSON object; got list",
    ]
    one = token_rows("sft", tokenizer, tmp_path, [GOOD["sft"], {"src": "a"}])
    with pytest.raises(DataError, match=r"^[^\n]*train.json:2: no 'tgt'[^\n]*$"):
        list(one.checked())


def test_the_first_twenty_reasons_are_shown(tokenizer, tmp_path):
    """Rows with the errors of these count there, also later ones."""
    lines = [{"src": "a", f"key{number}": 1} for number in range(30)] + [{"src": "a", "key3": 1}] * 2
    with pytest.raises(DataError) as caught:
        list(token_rows("sft", tokenizer, tmp_path, lines).checked())
    first, *listed = str(caught.value).splitlines()
    assert first == "32 rows cannot be used, the first 20 reasons are:" and len(listed) == 20
    assert "train.json: lines 4, 31, 32: no 'tgt'; the row has 'src', 'key3'" in listed[3]
    assert "train.json:20: no 'tgt'; the row has 'src', 'key19'" in listed[-1]


def test_equal_errors_of_several_files_are_listed_together(tokenizer, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "a.csv").write_text("src,tgt\na,\nb,\n")
    (folder / "b.jsonl").write_text('{"src": "a", "tgt": ""}\n')
    with pytest.raises(DataError, match="a.csv: rows 1, 2; .*b.jsonl: line 1: 'tgt' is empty"):
        list(SFTTokens(SFTLines(str(tmp_path), "train"), tokenizer, 40, 64).checked())


class FailingTokenizer:
    """Stands for a tokenizer that fails for some texts."""

    chat_template, eos_token_id = None, 2

    def __call__(self, text: str, **options) -> dict[str, list[int]]:
        if "!" in text:
            raise RuntimeError("unable to cast")
        return {"input_ids": [1, 5]}


@pytest.mark.parametrize("task", TASKS)
def test_errors_of_the_tokenizer_name_file_and_line(task, tmp_path):
    bad = json.loads(json.dumps(GOOD[task]).replace('"b"', '"b!"'))
    rows = token_rows(task, FailingTokenizer(), tmp_path, [GOOD[task], bad])
    message = r"train.json:2: the row cannot be turned into tokens: RuntimeError: unable to cast"
    for read in (rows, rows.checked()):
        with pytest.raises(DataError, match=message):
            list(read)


@pytest.mark.parametrize(
    ("task", "row", "text"),
    [
        ("sft", {"src": "", "tgt": "b"}, "'src' is empty"),
        ("sft", {"src": "a", "tgt": " \n"}, "'tgt' is empty"),
        ("sft", {"src": ["a", "b"], "tgt": ["c", ""]}, "'tgt' is empty in one of the rounds"),
        ("sft", {"messages": [USER, BLANK]}, "answer 1 of 'messages' is empty"),
        ("dpo", {"prompt": "a", "chosen": "b", "rejected": ""}, "an answer is empty"),
        ("dpo", {"prompt": " ", "chosen": "b", "rejected": "c"}, "question 1 of the prompt .* is empty"),
        ("dpo", {"src": ["a", "b"], "tgt": [""], "response": ["c", "d"], "sort": [1, 0]}, "answer 1 .* is empty"),
        ("dpo", {"chosen": [USER, BLANK], "rejected": [USER, {**BLANK, "content": "b"}]}, "an answer is empty"),
        ("rm", {"src": "a", "response": ["b", "c", "\t"], "sort": [1, 2, 3]}, "an answer is empty"),
        ("rm", {"src": "a", "response": ["b", "c"], "sort": [float("nan"), 1]}, "'sort' must hold numbers"),
        ("kto", {"src": "a", "response": [""], "sort": [1]}, "an answer is empty"),
        ("kto", {"prompt": "a", "completion": [BLANK], "label": False}, "an answer is empty"),
        ("kto", {"prompt": [USER, BLANK, USER], "completion": "b", "label": False}, "answer 1 .* is empty"),
    ],
)
def test_empty_texts_are_refused_in_every_form(task, row, text, tokenizer, tmp_path):
    with pytest.raises(DataError, match=f"train.json:1: .*{text}"):
        list(token_rows(task, tokenizer, tmp_path, [row, GOOD[task]]).checked())


TALK = [USER, {**BLANK, "content": "b"}]
PAIR = {"prompt": [USER], "chosen": "b", "rejected": "c"}
SEVERAL = {"prompt": "a", "answers": ["b", "c"]}


@pytest.mark.parametrize(
    ("task", "row", "text"),
    [
        ("sft", '{"src": "a", "src": "c", "tgt": "b"}', "the key 'src' occurs twice in one object"),
        ("dpo", '{"prompt": "a", "chosen": "b", "rejected": "c", "context": {"x": 1, "x": 2}}', "the key 'x' occurs"),
        ("sft", {"messages": TALK, "src": "a", "tgt": "b"}, "'messages' and 'src' do not go together"),
        ("sft", {"messages": TALK, "tgt": "b"}, "'messages' and 'tgt' do not go together"),
        ("sft", {**SEVERAL, "messages": TALK}, "'answers' and 'messages' do not go together"),
        ("sft", {**SEVERAL, "weight": 2}, "'answers' and 'weight' do not go together"),
        ("sft", {"src": "a", "tgt": "b", "weights": [2]}, "'weights' and 'src' do not go together"),
        ("policy", {**GOOD["policy"], "src": "a"}, "'answers' and 'src' do not go together"),
        ("policy", {**GOOD["policy"], "system": "a"}, "'answers' and 'system' do not go together"),
        ("policy", {**GOOD["policy"], "completion": "a"}, "'answers' and 'completion' do not go together"),
        ("dpo", {**PAIR, "messages": [{**USER, "content": "z"}]}, "'prompt' and 'messages' do not go together"),
        ("rm", {**GOOD["rm"], "chosen": "b"}, "'src' and 'chosen' do not go together"),
        ("sft", {"src": "a", "tgt": "b", "wieght": 2}, "unknown key 'wieght'; is 'weight' meant?"),
        ("sft", {"messages": TALK, "Tools": []}, "unknown key 'Tools'; is 'tools' meant?"),
        ("sft", {**SEVERAL, "weigths": [1, 2]}, "unknown key 'weigths'; is 'weights' meant?"),
        ("policy", {**GOOD["policy"], "log_probabilites": [[-1]]}, "is 'log_probabilities' meant?"),
        ("policy", {"prompt": "a", "answers": ["b"], "advantges": [1]}, r"no 'advantages' \(is 'advantges' meant"),
        ("kto", {"prompt": "a", "completion": "b", "lable": True}, r"no 'label' \(is 'lable' meant to be it\?\)"),
        ("dpo", {"prompt": "a", "chosen": "b", "rejcted": "c"}, r"no 'rejected' \(is 'rejcted' meant to be it\?\)"),
        ("dpo", {"promt": "a", "chosen": TALK, "rejected": TALK}, "unknown key 'promt'; is 'prompt' meant?"),
    ],
)
def test_keys_that_would_be_ignored_are_refused(task, row, text, tokenizer, tmp_path):
    with pytest.raises(DataError, match=f"train.json:1: .*{text}"):
        list(token_rows(task, tokenizer, tmp_path, [row, GOOD[task]]).checked())


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("sft", {"messages": TALK, "src": None, "prompt": "a", "prompt_id": "7", "answer": "b", "height": 3}),
        ("sft", {"src": "a", "tgt": "b", "context_id": 1, "source": "web", "labels": [1]}),
        ("policy", {**GOOD["policy"], "answer": "b", "id": 5}),
        ("dpo", {**PAIR, "messages": [USER], "score_chosen": 1.0, "prompt_id": "7"}),
        ("dpo", {"prompt": "a", "chosen": TALK, "rejected": [USER, BLANK | {"content": "c"}], "messages": TALK}),
    ],
)
def test_other_keys_are_allowed(task, row, tokenizer, tmp_path):
    """As published data sets have them."""
    assert len(list(token_rows(task, tokenizer, tmp_path, [row]).checked())) == 1


def test_one_object_over_several_lines_is_told_once(tokenizer, tmp_path):
    text = "\n" + json.dumps(GOOD["sft"], indent=2)
    with pytest.raises(DataError, match=r"train.json:2: a file holds one object per line, or one array") as caught:
        list(token_rows("sft", tokenizer, tmp_path, [text]).checked())
    assert "\n" not in str(caught.value)
