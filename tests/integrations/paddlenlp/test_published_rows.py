"""Rows and files as they are published: nothing of them is left out without a word."""

from __future__ import annotations

import gzip
import json

import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines
from paddle_flashmask.integrations.paddlenlp.data.preferences import PreferenceLines
from paddle_flashmask.integrations.paddlenlp.data.rollouts import RolloutLines
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import dpo

SYSTEM, USER = {"role": "system", "content": "s"}, {"role": "user", "content": "a"}
ANSWER = {"role": "assistant", "content": "b"}
TURNS = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
ALPACA = {"instruction": "a", "output": "b"}
THINKING = "is not read: thinking is part of the text, as the chat template writes it"
NO_SYSTEM = "and the conversation does not begin with this text of the system; got 's'"


def parse(row: dict):
    return SFTLines.parse(None, json.dumps(row).encode(), "file:1")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            {"messages": [USER, {**ANSWER, "function_call": {"name": "f", "arguments": "{}"}}]},
            r"messages\[1\]: 'function_call' is not read: a call is an entry of 'tool_calls'",
        ),
        ({"messages": [USER, {**ANSWER, "content": None, "refusal": "No."}]}, r"messages\[1\]: 'refusal' is not read"),
        ({"messages": [USER, {**ANSWER, "audio": {"id": "x"}}]}, r"messages\[1\]: 'audio' cannot be used"),
        ({"messages": [{**USER, "images": ["a.png"]}, ANSWER]}, r"messages\[0\]: 'images' cannot be used"),
        ({"messages": [USER, {**ANSWER, "reasoning_content": "r"}]}, rf"messages\[1\]: 'reasoning_content' {THINKING}"),
        ({"messages": [USER, {**ANSWER, "thinking": "r"}]}, rf"messages\[1\]: 'thinking' {THINKING}"),
        ({"conversations": [TURNS[0], {**TURNS[1], "reasoning": "r"}]}, rf"conversations\[1\]: 'reasoning' {THINKING}"),
        ({"prompt": [USER], "completion": [{**ANSWER, "reasoning": "r"}]}, rf"completion\[0\]: 'reasoning' {THINKING}"),
        ({"messages": [USER, ANSWER], "video": "a.mp4"}, "'video' cannot be used: the models here take text alone"),
        ({**ALPACA, "system_prompt": "s"}, f"unknown key 'system_prompt', {NO_SYSTEM}"),
        ({"conversations": TURNS, "system_prompt": "s"}, f"unknown key 'system_prompt', {NO_SYSTEM}"),
        ({"messages": [USER, ANSWER], "system_message": "s"}, f"unknown key 'system_message', {NO_SYSTEM}"),
        ({"prompt": "a", "answers": ["b"], "system_prompt": "s"}, f"unknown key 'system_prompt', {NO_SYSTEM}"),
        (
            {"messages": [USER, ANSWER], "functions": [{"name": "f"}]},
            "unknown key 'functions'; the name here is 'tools'",
        ),
        (
            {"prompt": "a", "answers": ["b"], "label": [0]},
            "'label' is a list beside 'answers', each of which is learned",
        ),
    ],
)
def test_what_would_be_left_out_is_refused(row, text):
    with pytest.raises(DataError, match=f"^file:1: {text}"):
        parse(row)


def test_what_would_be_left_out_is_refused_in_every_task():
    lines = PreferenceLines.__new__(PreferenceLines)
    lines.form = dpo.FORM
    pair = {"prompt": [USER], "chosen": [ANSWER], "rejected": "c"}
    with pytest.raises(DataError, match="unknown key 'system_prompt'"):
        lines.parse(json.dumps({**pair, "system_prompt": "s"}).encode(), "file:1")
    with pytest.raises(DataError, match=r"chosen\[0\]: 'reasoning_content' is not read"):
        lines.parse(json.dumps({**pair, "chosen": [{**ANSWER, "reasoning_content": "r"}]}).encode(), "file:1")
    rollout = {"prompt": "a", "answers": ["b"], "advantages": [1], "functions": [{"name": "f"}]}
    with pytest.raises(DataError, match="unknown key 'functions'"):
        RolloutLines.parse(None, json.dumps(rollout).encode(), "file:1")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, USER, ANSWER], "system_prompt": "s"},
        {**ALPACA, "system": "s", "system_prompt": "s"},
        {"messages": [USER, {**ANSWER, "refusal": None, "audio": None, "function_call": None}], "system_prompt": ""},
        {"messages": [{**USER, "name": "Bob", "images": []}, {**ANSWER, "reasoning_content": ""}], "functions": []},
    ],
)
def test_keys_that_hold_nothing_more_are_accepted(row):
    assert [entry["content"] for entry in parse(row)[0].messages][-2:] == ["a", "b"]


LINE = b'{"src": "a", "tgt": "b"}\n'


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (gzip.compress(LINE, mtime=0), "is compressed with gzip, whatever its name; decompress it"),
        (b"\x28\xb5\x2f\xfd\0\0", "is compressed with zstd"),
        (b"PK\x03\x04\0\0", "is compressed with zip"),
        (b"PAR1\0\0", "is a Parquet file, whatever its name, which must end in .parquet"),
        ((LINE * 2).decode().encode("utf-16"), "is UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8"),
        ((LINE * 2).decode().encode("utf-16-le"), "is UTF-16, expected UTF-8"),
    ],
    ids=["gzip", "zstd", "zip", "parquet", "utf-16 with a mark", "utf-16"],
)
def test_a_file_that_is_no_text_of_utf8_is_named_once(ending, content, text, tmp_path):
    path = tmp_path / f"train{ending}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"train{ending} {text}") as caught:
        list(SFTLines(str(path), "train"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + LINE, LINE.replace(b"\n", b"\r\n"), LINE.strip(), b"\n" + LINE])
def test_byte_order_marks_and_line_ends_do_not_matter(content, tmp_path):
    (tmp_path / "train.jsonl").write_bytes(content)
    (row,) = SFTLines(str(tmp_path), "train")
    assert [entry["content"] for entry in row.messages] == ["a", "b"]
