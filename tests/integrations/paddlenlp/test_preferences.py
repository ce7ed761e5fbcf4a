"""Preference data to tokens: all accepted forms are equivalent, and errors name the file and the line."""

from __future__ import annotations

import json

import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.preference_tokens import PreferenceTokens
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS, dpo, kto, rm

FORMS = {"dpo": dpo.FORM, "rm": rm.FORM, "kto": kto.FORM}


def parsed(row: dict, task: str = "dpo"):
    row = FORMS[task].read(row, "file:1")
    *earlier, question = [entry["content"] for entry in row.prompt]
    rounds = list(zip(earlier[0::2], earlier[1::2], strict=True))
    return rounds, question, [entry["content"] for entry in row.answers], row.desirable


def message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


GOOD, BAD = message("assistant", "good"), message("assistant", "bad")
TALK = [message("user", "a"), message("assistant", "b"), message("user", "c")]


@pytest.mark.parametrize(
    "row",
    [
        {"src": ["a", "c"], "tgt": ["b"], "response": ["good", "bad"], "sort": [1, 0]},
        {"src": ["a", "c"], "tgt": "b", "response": ["bad", "good"], "sort": [0.5, 2]},
        {"prompt": TALK, "chosen": "good", "rejected": "bad"},
        {"messages": TALK, "chosen": GOOD, "rejected": [BAD]},
        {"prompt": TALK, "chosen": [*TALK, GOOD], "rejected": [*TALK, BAD]},
        {"prompt": "a", "chosen": [*TALK, GOOD], "rejected": [*TALK, BAD]},
        {"chosen": [*TALK, GOOD], "rejected": [*TALK, BAD]},
    ],
)
def test_all_forms_of_a_pair_mean_the_same(row):
    assert parsed(row) == ([("a", "b")], "c", ["good", "bad"], None)


@pytest.mark.parametrize("tgt", [{}, {"tgt": []}, {"tgt": ""}])
def test_one_round_and_a_system_message(tgt):
    assert parsed({"src": "q", **tgt, "response": ["x", "y"], "sort": [1, 0]}) == ([], "q", ["x", "y"], None)
    assert parsed({"prompt": "q", "chosen": "x", "rejected": "y"}) == ([], "q", ["x", "y"], None)
    prompt = [message("system", "be kind"), message("user", "q")]
    row = dpo.FORM.read({"prompt": prompt, "chosen": "x", "rejected": "y"}, "line")
    assert row.prompt == prompt


def test_ranked_and_marked_answers():
    row = {"src": "q", "response": ["b", "d", "a", "c"], "sort": [3, 1, 4, 2]}
    assert parsed(row, "rm") == ([], "q", ["a", "b", "c", "d"], None)
    assert parsed({"src": "q", "response": ["x"], "sort": [0]}, "kto") == ([], "q", ["x"], False)
    assert parsed({"prompt": "q", "completion": "x", "label": True}, "kto") == ([], "q", ["x"], True)


@pytest.mark.parametrize(
    ("task", "line", "text"),
    [
        ("dpo", '{"src": ', "not valid JSON"),
        ("dpo", "[1]", "expected a JSON object; got list"),
        ("dpo", {"chosen": "x", "rejected": "y"}, "no 'prompt', 'messages' or 'src'; the row has 'chosen', 'rejected'"),
        ("dpo", {"prompt": "q", "chosen": "x"}, "no 'rejected'; the row has 'prompt', 'chosen'"),
        ("dpo", {"src": "q", "response": ["x", "y"]}, "no 'sort'"),
        ("dpo", {"src": ["q", "r"], "response": ["x", "y"], "sort": [1, 0]}, "must hold one text more than 'tgt'"),
        ("dpo", {"src": "q", "response": ["x", "y"], "sort": [1, 1]}, "the numbers in 'sort' must differ"),
        ("dpo", {"src": "q", "response": ["x", "y"], "sort": [1]}, "2 entries in 'response' and 1 in 'sort'"),
        ("dpo", {"src": "q", "response": ["x", "y", "z"], "sort": [1, 2, 3]}, "must hold two answers for DPO; got 3"),
        ("dpo", {"src": "q", "response": ["x", " "], "sort": [1, 0]}, "an answer is empty"),
        ("dpo", {"src": 5, "response": ["x", "y"], "sort": [1, 0]}, "'src' must be a string or a list of strings"),
        ("rm", {"src": "q", "response": ["x"], "sort": [1]}, "two answers or more for a reward model; got 1"),
        ("kto", {"src": "q", "response": ["x"], "sort": [3]}, r"'sort' must be \[1\] \(wanted\) or \[0\]"),
        ("kto", {"prompt": "q", "completion": "x", "label": "yes"}, "'label' must be true or false"),
        ("dpo", {"prompt": [GOOD], "chosen": "x", "rejected": "y"}, "must alternate user, assistant"),
        ("dpo", {"prompt": TALK, "chosen": TALK, "rejected": "y"}, "'chosen' must end with a message of the assistant"),
        ("dpo", {"prompt": "z", "chosen": [*TALK, GOOD], "rejected": [*TALK, BAD]}, "does not begin with 'prompt'"),
        ("dpo", {"prompt": "a", "chosen": [*TALK, GOOD], "rejected": "y"}, "must differ in their last message only"),
        (
            "rm",
            {"prompt": "a", "chosen": [*TALK, GOOD], "rejected": [TALK[0], GOOD, TALK[2], BAD]},
            "must differ in their last message only",
        ),
        ("kto", {"prompt": "z", "completion": [*TALK, GOOD], "label": True}, "does not begin with 'prompt'"),
        ("dpo", {"chosen": [TALK[0], GOOD], "rejected": [TALK[2], BAD]}, "must differ in their last message only"),
    ],
)
@pytest.mark.parametrize("lazy", [True, False])
def test_a_bad_row_is_named_by_file_and_line(tokenizer, tmp_path, task, line, text, lazy):
    good = {"src": "a", "response": ["b", "c"], "sort": [1, 0]}
    if task == "kto":
        good = {"src": "a", "response": ["b"], "sort": [1]}
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(good) + "\n\n" + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    rows = PreferenceTokens(PreferenceLines(str(path), FORMS[task]), tokenizer, 64)
    pack = TASKS[task].stream if lazy else TASKS[task].pack
    with pytest.raises(DataError, match=rf"train.jsonl:3: .*{text}"):
        list(pack(rows, 64, max_prompt_length=32, order="sequential", too_long="truncate"))


def test_missing_files_are_named_and_folders_are_read_by_name(tmp_path):
    with pytest.raises(DataError, match="neither a file nor a folder"):
        PreferenceLines(str(tmp_path / "none"), dpo.FORM)
    for name in ("b.json", "a.jsonl"):
        (tmp_path / name).write_text(json.dumps({"prompt": name, "chosen": "x", "rejected": "y"}))
    assert [row.prompt[0]["content"] for row in PreferenceLines(str(tmp_path), dpo.FORM)] == ["a.jsonl", "b.json"]


def test_tokens_follow_paddlenlp_and_earlier_rounds_are_kept_whole(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"src": ["baling", "dimor"], "tgt": ["rix"], "response": ["chene", "mor"], "sort": [1, 0]})
    )

    def ids(text, special=False):
        return tokenizer(text, add_special_tokens=special)["input_ids"]

    end = [tokenizer.eos_token_id]
    last = {"prompt": ids("dimor", True), "chosen": ids("chene") + end, "rejected": ids("mor") + end}
    earlier = ids("baling", True) + ids("rix") + end
    (row,) = PreferenceTokens(PreferenceLines(str(path), dpo.FORM), tokenizer, 100)
    assert row == {**last, "prompt": earlier + last["prompt"]}
    short = PreferenceTokens(
        PreferenceLines(str(path), dpo.FORM), tokenizer, sum(map(len, last.values())) + len(earlier) - 1
    )
    assert (list(short), short.cut_rows) == ([last], 1)


class CharacterTokenizer:
    """Tokens are characters, so that blanks are kept; 1 begins and 2 ends a text."""

    chat_template, eos_token_id = None, 2

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [ord(character) for character in text]}


def test_blanks_around_texts_are_kept_as_in_sft(tmp_path):
    question, answer = " baling\n", "\tchene  dimor \n"
    (tmp_path / "train.json").write_text(json.dumps({"src": question, "tgt": answer}))
    (row,) = SFTTokens(SFTLines(str(tmp_path), "train"), CharacterTokenizer(), 60, 100)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": question, "chosen": answer, "rejected": "rix"}))
    (pair,) = PreferenceTokens(PreferenceLines(str(path), dpo.FORM), CharacterTokenizer(), 100)
    assert pair["prompt"] == [1, *map(ord, question)] and pair["chosen"] == [*map(ord, answer), 2]
    assert [*pair["prompt"], *pair["chosen"]] == [*row["input_ids"], row["labels"][-1]]


def test_pairs_that_are_the_same_are_reported(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [("chene", "chene"), ("baling " * 90 + "rix", "baling " * 90 + "mor"), ("chene", "dimor")]
    path.write_text("".join(json.dumps({"prompt": "a", "chosen": a, "rejected": b}) + "\n" for a, b in rows))
    tokens = PreferenceTokens(PreferenceLines(str(path), dpo.FORM), tokenizer, 64)
    packed = TASKS["dpo"].pack(tokens, 64, max_prompt_length=32, order="sequential", too_long="truncate")
    assert (packed.report.rows, packed.report.packed_rows) == (3, 1)
    assert str(packed.report).endswith("; 2 rows dropped, whose answers are the same")


def test_kto_needs_two_questions(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"src": "a", "response": ["b"], "sort": [1]}))
    with pytest.raises(DataError, match="rows.jsonl: KTO needs at least two questions"):
        list(PreferenceTokens(PreferenceLines(str(path), kto.FORM), tokenizer, 64))
