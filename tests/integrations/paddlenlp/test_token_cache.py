"""Cached tokens are those of the files, and nothing that changes tokens is overlooked."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import write_rows

from paddle_flashmask.integrations.paddlenlp.config.data_sets import DataSet
from paddle_flashmask.integrations.paddlenlp.data import token_cache
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.rollouts import RolloutLines, RolloutTokens
from paddle_flashmask.integrations.paddlenlp.data.token_cache import KEPT_UNFINISHED, UNFINISHED, TokenCache
from paddle_flashmask.integrations.paddlenlp.data.token_store import StoredTokens, TokenWriter
from paddle_flashmask.integrations.paddlenlp.data.tokenization import Tokenization
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError
from paddle_flashmask.integrations.paddlenlp.inputs import RunInputs, read_task
from paddle_flashmask.integrations.paddlenlp.loading import TokenizerSource
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.train import train

ROWS = [{"src": "one two", "tgt": "three"}, {"src": "four " * 80, "tgt": "five"}, {"src": "six", "tgt": "seven"}]
TEMPLATE = {"conversation": ["Q: {{user}} ", "A: {{bot}}"], "query": "Q: {{query}}"}

number = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)
)
lists = st.one_of(
    st.lists(st.integers(0, 2**31 - 1)), st.lists(st.floats(allow_nan=False)), st.lists(st.lists(st.integers(0, 9)))
)
row = st.dictionaries(
    st.sampled_from(["input_ids", "labels", "answers", "values"]),
    st.one_of(number, lists, st.dictionaries(st.text(max_size=3), st.one_of(number, lists), max_size=2)),
)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(row, st.integers(0, 2**31 - 1)), max_size=8))
def test_stored_rows_are_the_same_with_their_types(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    writer = TokenWriter(folder)
    for values, cut_rows in rows:
        writer.add(values, cut_rows)
    writer.finish({"a": 1}, 7)
    stored = StoredTokens(folder)
    assert repr(list(stored.rows())) == repr(rows)
    assert (stored.key, stored.cut_rows) == ({"a": 1}, 7)


@pytest.fixture
def source(tokenizer, tmp_path) -> TokenizerSource:
    folder = tmp_path / "tokenizer"
    tokenizer.save_pretrained(str(folder))
    return TokenizerSource(str(folder), None)


class Reading:
    """Rows of one file read through a cache, with the notes."""

    def __init__(self, source: TokenizerSource, folder: Path, rows: list = ROWS):
        self.notes: list[str] = []
        self.source = source
        self.folder = folder
        write_rows(folder / "train.json", rows)

    def rows(self, source: TokenizerSource | None = None, cached: bool = True, lines=None, **changes) -> SFTTokens:
        source = source or self.source
        values = {"src_length": 40, "max_length": 64, **changes}
        rows = SFTTokens(lines or SFTLines(str(self.folder), "train"), source.load(), **values)
        if cached:
            rows.reader = Tokenization(source, cache=self.cache(source))
        return rows

    def cache(self, source: TokenizerSource | None = None) -> TokenCache:
        return TokenCache(self.folder / "cache", "sft-train", source or self.source, self.notes.append)

    @property
    def stored(self) -> list[Path]:
        return sorted((self.folder / "cache").iterdir())

    def is_hit(self, rows: SFTTokens) -> bool:
        """Whether the cache holds the rows."""
        return self.cache(rows.reader.source).path_of(self.cache(rows.reader.source).key_of(rows)).exists()


@pytest.fixture
def reading(source, tmp_path) -> Reading:
    return Reading(source, tmp_path)


def test_a_second_reading_takes_the_tokens_from_the_cache(reading, monkeypatch):
    plain = reading.rows(cached=False)
    expected = list(plain)
    for _ in range(2):
        rows = reading.rows()
        assert (list(rows), rows.cut_rows) == (expected, plain.cut_rows) and plain.cut_rows == 1
    assert len(reading.stored) == 1
    note = f"note: sft-train rows are read as tokens from {reading.stored[0]}"
    assert reading.notes == [note]
    assert list(rows) == list(rows) == expected and reading.notes == [note]  # a stream is read for every epoch
    monkeypatch.setattr(SFTTokens, "convert", None)
    rows = reading.rows()
    counts = []
    assert [(row, counts.append(rows.cut_rows))[0] for row in rows] == expected
    assert counts == [0, 1, 1]


@pytest.mark.parametrize("task", TASKS)
def test_training_is_the_same_with_the_cache(task, task_config, tmp_path, monkeypatch):
    config = {**task_config(task), "max_steps": 2, "tokenized_cache": str(tmp_path / "cache"), "disable_tqdm": True}
    losses, notes = [], []
    for name in ("without", "first", "second"):
        path = tmp_path / f"{task}.json"
        values = {key: value for key, value in config.items() if name != "without" or key != "tokenized_cache"}
        path.write_text(json.dumps({**values, "lazy": False, "output_dir": str(tmp_path / name)}))
        result = train(path, write=notes.append)
        losses.append((result.losses, result.packing.to_dict(), result.cut_rows))
    assert losses[0] == losses[1] == losses[2] and len(losses[0][0]) == 2
    assert sum("are read as tokens from" in note for note in notes) == len(list((tmp_path / "cache").iterdir()))


def test_everything_that_changes_tokens_changes_the_key(reading, tmp_path):
    list(reading.rows())
    assert reading.is_hit(reading.rows())
    for changes in ({"src_length": 41}, {"max_length": 65}, {"weighted": True}):
        assert not reading.is_hit(reading.rows(**changes)), changes
    template = tmp_path / "template"
    template.mkdir()
    (template / "chat_template.json").write_text(json.dumps(TEMPLATE))
    other = replace(reading.source, chat_template=str(template))
    assert not reading.is_hit(reading.rows(other))
    list(reading.rows(other))
    assert reading.is_hit(reading.rows(other))
    (template / "chat_template.json").write_text(json.dumps({**TEMPLATE, "conversation": ["P: {{user}} ", "{{bot}}"]}))
    assert not reading.is_hit(reading.rows(other))


@pytest.mark.parametrize("name", ["sentencepiece.bpe.model", "tokenizer_config.json", "chat_template.json", "new.json"])
def test_every_file_of_the_tokenizer_counts(name, reading):
    list(reading.rows())
    path = Path(reading.source.name) / name
    loaded = reading.rows()
    path.write_bytes(path.read_bytes() + b" " if path.is_file() else json.dumps(TEMPLATE).encode())
    assert not reading.is_hit(loaded)


def test_weights_of_the_model_do_not_count(reading):
    list(reading.rows())
    for name in ("model.safetensors", "model_state.pdparams", "pytorch_model-1.bin"):
        (Path(reading.source.name) / name).write_bytes(b"weights")
    assert reading.is_hit(reading.rows())


def test_the_content_and_the_kind_of_the_data_count(reading):
    list(reading.rows())
    path = reading.folder / "train.json"
    content = path.read_text()
    path.write_text(content.replace("six", "sex"))
    assert not reading.is_hit(reading.rows())
    path.write_text(content)
    assert reading.is_hit(reading.rows())
    path.rename(path.with_suffix(".jsonl"))
    assert not reading.is_hit(reading.rows())


@pytest.mark.parametrize("weights, seed", [((1, 1), 5), ((1, 2), 4), ((0.5, 1), 4), ((1,), 4)])
def test_weights_and_the_seed_of_data_sets_count(weights, seed, reading):
    def lines(weights, seed):
        folders = [reading.folder / name for name in ("first", "second")][: len(weights)]
        sets = [DataSet(str(folder), weight) for folder, weight in zip(folders, weights, strict=True)]
        return SFTLines(sets, "train", seed)

    for name in ("first", "second"):
        (reading.folder / name).mkdir()
        write_rows(reading.folder / name / "train.json", ROWS)
    list(reading.rows(lines=lines((1, 1), 4)))
    assert reading.is_hit(reading.rows(lines=lines((1, 1), 4)))
    assert not reading.is_hit(reading.rows(lines=lines(weights, seed)))


def test_the_split_the_task_and_the_tokenizer_count(reading):
    rows = reading.rows()
    key = reading.cache().key_of(rows)
    rows.rows.mixture._trains = False
    assert reading.cache().key_of(rows) != key
    rows.rows.mixture._trains, rows.rows.form = True, SimpleNamespace(tokens=train)
    assert reading.cache().key_of(rows) != key
    del rows.rows.form
    assert reading.cache().key_of(rows) == key
    rows.rows.another = 1
    assert reading.cache().key_of(rows) != key
    rows = reading.rows()
    rows.tokenizer = SimpleNamespace()
    assert reading.cache().key_of(rows) != key


def test_versions_count(reading, monkeypatch):
    list(reading.rows())
    found = token_cache._versions()
    assert {"paddle_flashmask", "source", "paddlenlp", "sentencepiece", "tokenizers", "python"} <= found.keys()
    for name in found:
        monkeypatch.setattr(token_cache, "_versions", lambda name=name: {**found, name: "another"})
        assert not reading.is_hit(reading.rows()), name


def test_tasks_do_not_share_rows(reading, tmp_path):
    """Rollouts of files that hold the same bytes."""
    policy = RolloutTokens(RolloutLines(str(tmp_path), "train"), reading.source.load(), 40, 64)
    cache = reading.cache()
    assert cache.key_of(policy) != cache.key_of(reading.rows())


@pytest.mark.parametrize("name", ["manifest.json", "integers", "sizes", "forms", "cut_rows"])
@pytest.mark.parametrize("how", ["bit", "cut", "gone"])
def test_a_damaged_cache_is_made_anew(name, how, reading):
    expected = list(reading.rows())
    path = reading.stored[0] / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-4])
    else:
        path.write_bytes(content[:-4] + bytes([content[-4] ^ 1]) + content[-3:])
    assert list(reading.rows()) == expected
    (note,) = reading.notes
    assert f"{reading.stored[0]} is damaged" in note
    assert list(reading.rows()) == expected and path.read_bytes() == content
    assert "are read as tokens" in reading.notes[-1]


def test_rows_with_errors_are_not_stored(source, tmp_path):
    reading = Reading(source, tmp_path, [*ROWS, {"src": "a"}])
    for read in (list, lambda rows: list(rows.checked())):
        with pytest.raises(DataError, match="train.json:4"):
            read(reading.rows())
    assert reading.stored == []


def test_a_reading_that_ends_early_stores_nothing(reading):
    rows = iter(reading.rows())
    next(rows)
    assert [path.name.startswith(UNFINISHED) for path in reading.stored] == [True]
    rows.close()
    assert reading.stored == []


def test_a_tokenizer_that_changes_after_it_was_loaded_is_not_stored(reading):
    rows = reading.rows()
    file = Path(reading.source.name) / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation_side": "left"}))
    assert list(rows) and not (reading.folder / "cache").exists()
    assert any("has changed since the start" in note for note in reading.notes)


def test_a_file_that_changes_while_it_is_read_is_not_stored(reading):
    rows = iter(reading.rows())
    next(rows)
    with open(reading.folder / "train.json", "a") as file:
        file.write(json.dumps(ROWS[0]) + "\n")
    list(rows)
    assert reading.stored == []


def test_two_readings_at_once(reading):
    expected = list(reading.rows(cached=False))
    found = []
    readers = [threading.Thread(target=lambda: found.extend([list(reading.rows())])) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [expected] * 4
    assert list(reading.rows()) == expected and len(reading.stored) == 1
    assert "are read as tokens" in reading.notes[-1]


def test_what_killed_runs_left_is_removed(reading):
    old, new = (reading.folder / "cache" / f"{UNFINISHED}{name}" for name in ("old", "new"))
    for path in (old, new):
        path.mkdir(parents=True)
        (path / "forms").touch()
    past = time.time() - KEPT_UNFINISHED - 60
    os.utime(old / "forms", (past, past))
    os.utime(old, (past, past))
    list(reading.rows())
    assert new in reading.stored and old not in reading.stored


def test_a_folder_that_cannot_be_written_is_noted(reading, monkeypatch):
    expected = list(reading.rows(cached=False))
    (reading.folder / "cache").write_text("a file")
    assert list(reading.rows()) == expected
    (note,) = reading.notes
    assert "tokenized_cache" in note and "is not written: File exists" in note


def test_a_full_disk_ends_the_storing_alone(reading, monkeypatch):
    def full(self, name):
        raise OSError(28, "No space left on device")

    expected = list(reading.rows(cached=False))
    monkeypatch.setattr(TokenWriter, "_flush", full)
    assert list(reading.rows()) == expected
    assert reading.notes[0].endswith("is not written: No space left on device") and reading.stored == []


def test_a_tokenizer_without_a_folder_is_noted(reading):
    rows = reading.rows()
    shutil.move(reading.source.name, reading.folder / "moved")
    assert len(list(rows)) == len(ROWS)
    assert "tokenized_cache is not used: the tokenizer" in reading.notes[0]


def test_the_key_names_a_folder(task_config, tmp_path):
    config = {**task_config("sft"), "tokenized_cache": str(tmp_path / "cache")}
    (tmp_path / "sft.json").write_text(json.dumps(config))
    inputs = RunInputs.load(*read_task(tmp_path / "sft.json", (), print), print)
    cache = inputs.rows("train").reader.cache
    assert (cache.folder, cache.name) == (tmp_path / "cache", "sft-train")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ConfigError, match="tokenized_cache = .* is not a folder"):
        read_task(tmp_path / "sft.json", (), print)
