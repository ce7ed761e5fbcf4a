"""Every file format gives the same rows, names its bad rows, and is read piece by piece."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from data_files import WRITERS, write_array, write_csv, write_lines, write_parquet
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paddle_flashmask.integrations.paddlenlp.data.files import path_sources, split_sources
from paddle_flashmask.integrations.paddlenlp.data.formats import json_text
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.lines import object_of
from paddle_flashmask.integrations.paddlenlp.errors import DataError

ROWS = [{"src": f"baling {n}", "tgt": f"dimor {n}"} for n in range(30)]


def rows_of(source) -> list[dict]:
    return [object_of(record, place) for record, place in source.lines()]


def token_rows(tokenizer, folder) -> SFTTokens:
    return SFTTokens(SFTLines(str(folder), "train"), tokenizer, 40, 64)


@pytest.mark.parametrize("ending", WRITERS)
def test_rows_of_every_format_have_the_same_tokens(ending, tokenizer, tmp_path):
    (tmp_path / "lines").mkdir()
    write_lines(tmp_path / "lines" / "train.json", ROWS)
    WRITERS[ending](tmp_path / f"train{ending}", ROWS)
    found, expected = token_rows(tokenizer, tmp_path), token_rows(tokenizer, tmp_path / "lines")
    assert list(found) == list(found.checked()) == list(expected)
    (source,) = split_sources(str(tmp_path), "train")
    assert source.count() == len(ROWS)


# Texts of every kind: those that look like numbers, nulls, dates or JSON, with quotes, line ends, and no text at all.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.sampled_from(["007", "1e3", "NA", "null", "None", "nan", "True", "2024-01-01", "[1]", "{}", ' "a", ', "a\r\nb"]),
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": TEXTS}), max_size=3)
EXAMPLES = st.lists(st.fixed_dictionaries({"prompt": TEXTS, "chosen": TEXTS, "messages": MESSAGES}), min_size=1)


@settings(max_examples=25, deadline=None)
@given(rows=EXAMPLES)
@example(rows=[{"prompt": "", "chosen": "", "messages": []}])
def test_texts_are_those_that_were_written(rows):
    rows = [*rows, {"prompt": "a", "chosen": "b", "messages": [{"role": "user", "content": "c"}]}]
    with tempfile.TemporaryDirectory() as folder:
        for ending, write in WRITERS.items():
            path = Path(folder) / f"rows{ending}"
            write(path, rows)
            (source,) = path_sources(str(path), "train")
            assert rows_of(source) == rows, ending
            assert source.count() == len(rows)


@settings(max_examples=60, deadline=None)
@given(chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_an_array_is_the_same_however_it_is_read(chunk, indent, ascii_only):
    rows = [{"a": -1.5e10, "b": 'ü\U0001f600\\"\n{[', "c": [True, None]}, {"é": float("-inf"), "n": 12}, -123456789, {}]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "CHUNK", chunk)
        path = Path(folder) / "rows.json"
        path.write_text("\n " + json.dumps(rows, indent=indent, ensure_ascii=ascii_only), encoding="utf-8-sig")
        lines = list(json_text.read_json(path))
    assert [json.loads(record) for record, _ in lines] == rows
    assert [place for _, place in lines] == [f"{path}: row {number}" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}, {"b": ]', r"row 2: not valid JSON: Expecting value \(line 1\)"),
        ('[{"a": 1},\n{"b": 2}\n{"c": 3}]', r"row 3: not valid JSON: expected ','; got '{' \(line 3\)"),
        ('[{"a": 1}, {"b": "x', r"row 2: not valid JSON: Unterminated string"),
        ('[{"a": 1}, ', "row 2: not valid JSON: Expecting value"),
        ('[{"a": 1}', "row 2: not valid JSON: the array has no end"),
        ('[{"a": 1}]\n{"b": 2}', r"row 2: not valid JSON: there is text after the array \(line 2\)"),
        (b'[{"a": 1}, {"b": "\xe9"}]', "row 1 or later: not UTF-8: byte 0xe9"),
    ],
)
def test_an_array_that_breaks_off_is_named(text, message, tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"rows.json: {message}"):
        list(json_text.read_json(path))


def test_elements_of_an_array_must_be_objects(tokenizer, tmp_path):
    write_array(tmp_path / "train.json", [*ROWS[:2], 5, [ROWS[0]], "text", ROWS[2]])
    with pytest.raises(DataError) as caught:
        list(token_rows(tokenizer, tmp_path).checked())
    first, *listed = str(caught.value).splitlines()
    assert first == "3 rows cannot be used:"
    assert [line.split("train.json: ")[1] for line in listed] == [
        f"row {number}: expected a JSON object; got {kind}" for number, kind in ((3, "int"), (4, "list"), (5, "str"))
    ]


@pytest.mark.parametrize("ending", WRITERS)
def test_bad_rows_are_listed_with_their_place(ending, tokenizer, tmp_path):
    rows = [{"src": "a", "tgt": " " if 4 < number < 30 else "b"} for number in range(40)]
    WRITERS[ending](tmp_path / f"train{ending}", rows)
    tokens = token_rows(tokenizer, tmp_path)
    with pytest.raises(DataError) as caught:
        list(tokens.checked())
    first, listed = str(caught.value).splitlines()
    assert first == "25 rows cannot be used:"
    kind = "lines" if ending == ".jsonl" else "rows"
    assert f"train{ending}: {kind} 6, 7, 8, 9, 10, ... (25 rows): 'tgt' is empty" in listed
    place = "train.jsonl:" if ending == ".jsonl" else f"train{ending}: row "
    with pytest.raises(DataError, match=f"{place}6: 'tgt' is empty"):
        list(tokens)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("src,tgt\na,b,c\n\na,b\na\n", "2 rows .*\n.*: row 1: 3 cells, and the header has 2.*\n.*: row 3: 1 cells"),
        ("src,tgt,weight\na,b,heavy\n", "row 1: a cell of 'weight' must be JSON: Expecting value; got 'heavy'"),
        ('src,tgt,context\na,b,"{""x"": 1, ""x"": 2}"\n', "row 1: the key 'x' occurs twice in one object of 'context'"),
        ('src,tgt,context\na,b,"{""x"": ""\\ud83d""}"\n', r"row 1: \\ud83d of 'context' is half of a surrogate pair"),
        ("src,src\na,b\n", "the header has the column 'src' twice"),
        ("src,\na,b\n", "column 2 of the header has no name"),
        ('src,tgt\na,"b" c\n', "row 1: not valid CSV"),
        (b"src,tgt\na,\xe9\n", "row 1 or later: not UTF-8: byte 0xe9"),
    ],
)
def test_csv_that_cannot_be_read_is_named(text, message, tokenizer, tmp_path):
    (tmp_path / "train.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        list(token_rows(tokenizer, tmp_path).checked())


def test_cells_of_csv_are_texts_except_those_that_hold_none(tmp_path):
    text = 'id,src,label,weight,history,input\n007,1e3,True,0.5,"[[""a"", ""NA""]]",\n7,NA,,,,\n'
    (tmp_path / "rows.csv").write_text(text)
    (source,) = path_sources(str(tmp_path / "rows.csv"), "train")
    assert rows_of(source) == [
        {"id": "007", "src": "1e3", "label": True, "weight": 0.5, "history": [["a", "NA"]], "input": ""},
        {"id": "7", "src": "NA", "input": ""},
    ]


@pytest.mark.parametrize("ending", [".parquet", ""])
def test_an_argument_named_content_that_other_calls_lack_is_absent(ending, tmp_path):
    """In Arrow all calls of a column have the arguments of any of them."""

    def talk(arguments: dict) -> dict:
        call = {"type": "function", "function": {"name": "file", "arguments": arguments}}
        return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}

    rows = [talk({"path": "a"}), talk({"path": "a", "content": "b"})]
    path = tmp_path / f"train{ending}"
    WRITERS[ending](path, rows)
    (source,) = split_sources(str(path), "train")
    assert [row for row, _ in source.lines()] == rows


def test_null_is_absent(tmp_path):
    """Also in objects of lists: Arrow gives all objects of a column the same keys."""
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    other = {"type": "function", "function": {"name": "say", "arguments": {"text": "x"}}}
    rows = [{"messages": [{"role": "assistant", "content": None, "tool_calls": [call, other]}]}, {"prompt": "a"}]
    for ending in (".parquet", ""):
        WRITERS[ending](tmp_path / f"rows{ending}", rows)
        (source,) = path_sources(str(tmp_path / f"rows{ending}"), "train")
        assert rows_of(source) == rows
    assert object_of(b'{"a": null, "b": {"c": null}}', "line") == {"b": {"c": None}}


def test_a_file_of_another_format_is_named(tmp_path):
    (tmp_path / "train.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"train.parquet: not a Parquet file"):
        list(SFTLines(str(tmp_path), "train"))
    (tmp_path / "rows.xlsx").write_text("")
    with pytest.raises(DataError, match=r"rows.xlsx: .* ends in one of .json, .jsonl, .parquet, .csv"):
        path_sources(str(tmp_path / "rows.xlsx"), "train")
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["src", "src"])
    pyarrow.parquet.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="twice.parquet: the column 'src' occurs twice"):
        path_sources(str(tmp_path / "twice.parquet"), "train")[0].count()


def test_a_split_in_two_files_is_refused(tmp_path):
    write_lines(tmp_path / "train.json", ROWS)
    write_parquet(tmp_path / "train.parquet", ROWS)
    with pytest.raises(DataError, match=r"both .*train.json and train.parquet exist; which one holds the train data"):
        split_sources(str(tmp_path), "train")
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "train").mkdir()
    assert len(split_sources(str(tmp_path), "train")) == 1
    write_csv(tmp_path / "train" / "a.csv", ROWS)
    with pytest.raises(DataError, match=r"both .*train.json and train exist"):
        split_sources(str(tmp_path), "train")
    write_csv(tmp_path / "train.csv", ROWS)
    with pytest.raises(DataError, match=r"both .*train.csv and train.json exist; do they hold the same rows\?"):
        path_sources(str(tmp_path), "train")


@pytest.mark.parametrize("name", ["b.JSONL", "b.jsonl.gz", "b.parquet.zst", "b.Csv"])
def test_a_file_of_a_folder_that_would_be_left_out_is_named(name, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    write_lines(folder / "a.jsonl", ROWS)
    (folder / "README.md").write_text("about the data")
    for find, path in ((split_sources, tmp_path), (path_sources, folder)):
        assert len(find(str(path), "train")) == 1
    (folder / name).write_text("")
    for find, path in ((split_sources, tmp_path), (path_sources, folder)):
        with pytest.raises(DataError, match=f"{name} would not be read: the name of a data file ends in one of .json"):
            find(str(path), "train")


@pytest.mark.parametrize(
    "names", [("train.jsonl", "dev.jsonl"), ("test_prefs-00000-of-00001.jsonl", "train_prefs-00000-of-00001.jsonl")]
)
def test_splits_of_a_folder_that_is_read_as_one_are_not_mixed(names, tmp_path):
    write_lines(tmp_path / names[0], ROWS)
    assert len(path_sources(str(tmp_path), "train")) == 1
    write_lines(tmp_path / names[1], ROWS)
    with pytest.raises(DataError, match="are named after two splits; all files of a folder are read as one"):
        path_sources(str(tmp_path), "train")


def test_splits_may_have_different_formats(tmp_path):
    write_array(tmp_path / "train.json", ROWS)
    (tmp_path / "dev").mkdir()
    write_parquet(tmp_path / "dev" / "a.parquet", ROWS[:3])
    write_csv(tmp_path / "dev" / "b.csv", ROWS[3:5])
    assert [row.messages[0]["content"] for row in SFTLines(str(tmp_path), "dev")] == [row["src"] for row in ROWS[:5]]
    assert len(list(SFTLines(str(tmp_path), "train"))) == len(ROWS)


def saved(folder, **splits: int) -> str:
    """A DatasetDict with so many rows in each split."""
    parts = {name: datasets.Dataset.from_list(ROWS[:count]) for name, count in splits.items()}
    datasets.DatasetDict(parts).save_to_disk(folder)
    return str(folder)


@pytest.mark.parametrize("find", [split_sources, path_sources])
def test_splits_of_a_saved_data_set(find, tmp_path):
    for number, name in enumerate(("validation", "dev", "test")):
        path = saved(tmp_path / name, train=3, **{name: number + 4})
        assert [find(path, split)[0].count() for split in ("train", "dev")] == [3, number + 4]
    path = saved(tmp_path / "all", train=3, validation=2, test=1)
    assert find(path, "dev")[0].count() == 2
    with pytest.raises(DataError, match="has the splits dev and validation; which one holds the dev data"):
        find(saved(tmp_path / "both", train=3, validation=2, dev=1), "dev")
    with pytest.raises(DataError, match="no dev data: .* has the splits train; expected dev, validation, test"):
        find(saved(tmp_path / "none", train=3), "dev")


def test_one_file_or_saved_data_set_is_training_data(tmp_path):
    write_lines(tmp_path / "rows.jsonl", ROWS)
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    for name in ("rows.jsonl", "saved"):
        assert split_sources(str(tmp_path / name), "train")[0].count() == len(ROWS)
        with pytest.raises(DataError, match="has no splits, so that all of it is training data"):
            split_sources(str(tmp_path / name), "dev")


def test_a_saved_data_set_is_identified_by_all_that_decides_its_rows(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved", num_shards=2)
    (source,) = split_sources(str(tmp_path / "saved"), "train")
    assert sorted(path.name for path in source.files) == [
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
        "dataset_info.json",
    ]


PROGRAM = """
import sys
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines
print(len(list(SFTLines(sys.argv[1], "train"))), sorted({"datasets", "pyarrow", "paddle"} & sys.modules.keys()))
"""


def test_json_lines_need_no_other_library(tmp_path):
    write_lines(tmp_path / "train.json", ROWS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert done.stdout == "30 []\n", done.stdout + done.stderr


@pytest.mark.parametrize("ending", [".json", ".csv", ".parquet"])
def test_memory_does_not_grow_with_the_file(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(json_text, "CHUNK", 1 << 12)
    path = tmp_path / f"rows{ending}"
    WRITERS[ending](path, [{"src": f"{number} " * 60, "tgt": "b"} for number in range(12000)])
    (source,) = path_sources(str(path), "train")
    next(source.lines())
    tracemalloc.start()
    count = sum(1 for _ in source.lines())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 12000 and peak < 500_000
