"""Instruction data to tokens by PaddleNLP's rules, and errors that name the file and the line."""

from __future__ import annotations

import json

import pytest

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.packing import IGNORED_LABEL, pack_sft, stream_sft


def rows(tokenizer, folder, src_length=20, max_length=40) -> SFTTokens:
    return SFTTokens(SFTLines(str(folder), "train"), tokenizer, src_length, max_length)


def write(folder, *lines) -> None:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "train.json").write_text(text + "\n", encoding="utf-8")


def test_labels_follow_the_tokens_and_only_the_answer_counts(tokenizer, tmp_path):
    write(tmp_path, {"src": "baling chene", "tgt": "dimor"})
    (row,) = rows(tokenizer, tmp_path)
    source = tokenizer("baling chene")["input_ids"]
    target = tokenizer("dimor", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    assert source[0] == tokenizer.bos_token_id
    assert row["input_ids"] == (source + target)[:-1]
    assert row["labels"] == [IGNORED_LABEL] * (len(source) - 1) + target


def test_long_rows_are_cut_by_paddlenlps_rules_and_counted(tokenizer, tmp_path):
    long = " ".join(["baling chene dimor"] * 30)
    write(tmp_path, {"src": long, "tgt": "dimor"}, {"src": "dimor", "tgt": long}, {"src": "dimor", "tgt": "rix"})
    tokenized = rows(tokenizer, tmp_path)
    long_source, long_target, short = list(tokenized)
    assert tokenized.cut_rows == 2
    everything = tokenizer(long, add_special_tokens=False)["input_ids"]
    assert long_source["input_ids"][:20] == [tokenizer.bos_token_id, *everything[:19]]
    assert long_source["labels"][18] == IGNORED_LABEL and long_source["labels"][19] != IGNORED_LABEL
    assert len(long_target["input_ids"]) == 39 and long_target["labels"][-1] != tokenizer.eos_token_id
    assert short["labels"][-1] == tokenizer.eos_token_id
    list(tokenized)
    assert tokenized.cut_rows == 2  # a second pass counts afresh


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"src": "a", "tgt": }', r"train.json:3: not valid JSON"),
        ("[1, 2]", r"train.json:3: expected a JSON object; got list"),
        ({"src": "a"}, r"train.json:3: no 'tgt'; the row has 'src'"),
        ({"src": "a", "tgt": 5}, r"train.json:3: 'tgt' must be a string or a list of strings; got 5"),
        ({"src": ["a", "b"], "tgt": ["a"]}, r"train.json:3: 2 entries in 'src' and 1 in 'tgt'"),
        ({"src": ["a", "b"], "tgt": ["a", "b"]}, r"train.json:3: a conversation of 2 rounds needs a chat template"),
        ({"src": "a", "tgt": "b", "context": 1}, r"train.json:3: 'context' must be an object"),
    ],
)
@pytest.mark.parametrize("pack", [pack_sft, stream_sft])
def test_a_bad_row_is_named_by_file_and_line(tokenizer, tmp_path, line, message, pack):
    write(tmp_path, {"src": "a", "tgt": "b"}, "", line)
    with pytest.raises(DataError, match=message):
        list(pack(rows(tokenizer, tmp_path), 40, order="sequential", too_long="error"))


def test_missing_data_is_named(tmp_path):
    names = "train.json, train.jsonl, train.parquet, train.csv"
    with pytest.raises(DataError, match=f"no train data: .* has neither {names} nor a folder train"):
        SFTLines(str(tmp_path), "train")


def test_a_folder_of_files_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "train").mkdir()
    for name in ("b", "a"):
        (tmp_path / "train" / f"{name}.json").write_text(json.dumps({"src": name, "tgt": name}))
    assert [row.messages[0]["content"] for row in SFTLines(str(tmp_path), "train")] == ["a", "b"]


def test_a_byte_order_mark_and_jsonl_are_read(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"src": "a", "tgt": "b"}\r\n', encoding="utf-8-sig")
    assert [row.messages[0]["content"] for row in SFTLines(str(tmp_path), "train")] == ["a"]
    (tmp_path / "train.json").write_text("")
    with pytest.raises(DataError, match=r"both .*train.json and train.jsonl exist"):
        SFTLines(str(tmp_path), "train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"src": "a\\ud83d", "tgt": "c"}', r"train.json:2: \\ud83d is half of a surrogate pair"),
        (b'{"src": "\xe9", "tgt": "b"}', "train.json:2: not UTF-8: byte 0xe9 at offset 9"),
        (b"[", r"train.json:2: not valid JSON: .*one object per line, or one array"),
    ],
)
def test_text_that_cannot_be_decoded_is_named(tmp_path, line, message):
    (tmp_path / "train.json").write_bytes(b'{"src": "a\\ud83d\\ude00", "tgt": "b"}\n' + line + b"\n")
    rows = iter(SFTLines(str(tmp_path), "train"))
    assert next(rows).messages[0]["content"] == "a\U0001f600"
    with pytest.raises(DataError, match=message):
        next(rows)


class TemplateTokenizer:
    """Stands for a tokenizer with a chat template: a word is one token, its length."""

    chat_template = "yes"

    def encode_chat_inputs(self, rounds, context_data):
        assert context_data == {"is_training": True, "mood": "good"}
        return {"system": [99], "conversations": [[[len(w) for w in text.split()] for text in pair] for pair in rounds]}


def test_conversations_keep_the_latest_rounds_that_fit(tmp_path):
    write(tmp_path, {"src": ["a bb", "ccc d"], "tgt": ["eeee", "fffff gg"], "context": {"mood": "good"}})
    (whole,) = rows(TemplateTokenizer(), tmp_path)
    assert whole["input_ids"] == [99, 1, 2, 4, 3, 1, 5]
    assert whole["labels"] == [-100, -100, 4, -100, -100, 5, 2]
    tokenized = rows(TemplateTokenizer(), tmp_path, src_length=2, max_length=7)
    (last,) = tokenized
    assert (last["input_ids"], last["labels"], tokenized.cut_rows) == ([99, 3, 1, 5], [-100, -100, 5, 2], 1)
    (cut,) = rows(TemplateTokenizer(), tmp_path, src_length=2, max_length=4)
    assert (cut["input_ids"], cut["labels"]) == ([99, 3, 5], [-100, 5, 2])
