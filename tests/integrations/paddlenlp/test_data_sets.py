"""Several data sets with weights: exact counts, the same rows for the same seed, and a run that knows its weights."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from data_files import WRITERS, write_array, write_lines, write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folders import SAVING

from paddle_flashmask.integrations.paddlenlp.config.data_sets import DataSet, data_sets_of
from paddle_flashmask.integrations.paddlenlp.config.values import check_early
from paddle_flashmask.integrations.paddlenlp.data.data_sets import DataSetMixture
from paddle_flashmask.integrations.paddlenlp.data.files import path_sources, split_sources
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError
from paddle_flashmask.integrations.paddlenlp.inspection.inspect import inspect
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.train import train


def write_set(folder: Path, name: str, count: int, ending: str = ".jsonl") -> str:
    path = folder / f"{name}{ending}"
    WRITERS[ending](path, [{"src": f"{name} {number}", "tgt": "dimor"} for number in range(count)])
    return str(path)


def texts(lines: SFTLines) -> list[str]:
    return [row.messages[0]["content"] for row in lines]


WEIGHTS = st.one_of(st.sampled_from([0.5, 1.0, 1.5, 2.0, 0.1, 2.5]), st.floats(0.01, 4).map(lambda w: round(w, 3)))
SETS = st.lists(st.tuples(st.integers(1, 30), WEIGHTS), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(sets=SETS, seed=st.integers(0, 3))
def test_every_row_is_taken_as_often_as_its_weight_asks_for(sets, seed):
    with tempfile.TemporaryDirectory() as folder:
        paths = [write_set(Path(folder), f"set{number}", count) for number, (count, _) in enumerate(sets)]
        given_sets = [DataSet(path, weight) for path, (_, weight) in zip(paths, sets, strict=True)]
        lines = SFTLines(given_sets, "train", seed)
        expected = [int(Fraction(str(weight)) * count + Fraction(1, 2)) for count, weight in sets]
        if 0 in expected:
            with pytest.raises(DataError, match=f"{paths[expected.index(0)]}: weight = .* takes none of"):
                texts(lines)
            return
        found = texts(lines)
        assert found == texts(lines) == texts(SFTLines(given_sets, "train", seed))
        assert [part.taken for part in lines.mixture.parts] == expected and len(found) == sum(expected)
    for number, (count, _) in enumerate(sets):
        own = [int(text.split()[1]) for text in found if text.startswith(f"set{number} ")]
        whole = expected[number] // count
        assert own[: whole * count] == [*range(count)] * whole
        assert sorted(set(own[whole * count :])) == own[whole * count :] and len(own) == expected[number]


def test_the_merge_and_the_part_depend_on_the_seed_alone(tmp_path):
    sets = [DataSet(write_set(tmp_path, "a", 40), 0.5), DataSet(write_set(tmp_path, "b", 40, ".json"))]
    orders = [texts(SFTLines(sets, "train", seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert len({tuple(sorted(order)) for order in orders}) == 2  # another half
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("a.jsonl", "b.json"):
        (tmp_path / name).rename(moved / name)
    sets = [DataSet(str(moved / Path(entry.path).name), entry.weight) for entry in sets]
    assert texts(SFTLines(sets, "train", 0)) == orders[0]


def test_every_subset_and_every_merge_is_equally_likely(tmp_path):
    """Over 600 seeds: each of the 6 pairs of 4 rows, and each of the 6 orders of two data sets of 2 rows."""
    half = [DataSet(write_set(tmp_path, "a", 4), 0.5)]
    both = [DataSet(write_set(tmp_path, name, 2)) for name in ("b", "c")]
    for sets in (half, both):
        found = Counter(
            tuple(record for record, _ in DataSetMixture(sets, "train", path_sources, seed).lines())
            for seed in range(600)
        )
        assert len(found) == 6 and all(60 < count < 140 for count in found.values())


def test_one_data_set_without_a_weight_is_read_in_order_and_not_counted(tmp_path, monkeypatch):
    path = write_set(tmp_path, "a", 9)
    lines = SFTLines([DataSet(path)], "train", 5)
    monkeypatch.delattr(type(lines.mixture.parts[0].sources[0]), "count")
    assert texts(lines) == [f"a {number}" for number in range(9)]


def test_evaluation_reads_every_row_once(tmp_path):
    for name, ending in (("a", ".json"), ("b", ".parquet")):
        (tmp_path / name).mkdir()
        write_set(tmp_path / name, "train", 3, ending)
        write_set(tmp_path / name, "dev", 2, ending)
    only = write_set(tmp_path, "only", 4)
    sets = [DataSet(str(tmp_path / "a"), 0.4), DataSet(only), DataSet(str(tmp_path / "b"), 2)]
    assert texts(SFTLines(sets, "dev")) == ["dev 0", "dev 1"] * 2
    with pytest.raises(DataError, match="no dev data: .*only.jsonl has no splits"):
        SFTLines([DataSet(only), DataSet(only)], "dev")
    write_parquet(tmp_path / "a" / "dev.parquet", [{"src": "a", "tgt": "b"}])
    with pytest.raises(DataError, match="both .*dev.json and dev.parquet exist"):
        SFTLines(sets, "dev")
    with pytest.raises(DataError, match="no train data"):
        SFTLines([*sets, DataSet(str(tmp_path / "none"))], "train")


def test_a_bad_row_that_is_read_twice_is_listed_once(tokenizer, tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"src": "a", "tgt": "b" if number % 3 else ""} for number in range(9)])
    lines = SFTLines([DataSet(str(tmp_path / "a.jsonl"), 2), DataSet(write_set(tmp_path, "b", 5))], "train")
    with pytest.raises(DataError, match="^3 rows cannot be used:") as caught:
        list(SFTTokens(lines, tokenizer, 40, 64).checked())
    assert "a.jsonl: lines 1, 4, 7: 'tgt' is empty" in str(caught.value)


BAD = [
    ([], r" = \[\] names no data"),
    ([5], " must be a path, or a list of paths and of objects with 'path' and 'weight'; got 5"),
    ({"path": 5}, ": 'path' of a data set must be a text; got 5"),
    ([{"weight": 1}], ": 'path' of a data set must be a text; got None"),
    ([{"path": "a", "wieght": 2}], ": unknown key 'wieght' of a data set; it has 'path' and 'weight'"),
    ([{"path": "a", "weight": 0}], ": weight = 0 of 'a' must be a finite number above 0"),
    ([{"path": "a", "weight": -1}], ": weight = -1 of 'a' must be a finite number above 0"),
    ([{"path": "a", "weight": True}], ": weight = True of 'a' must be a finite number above 0"),
    ([{"path": "a", "weight": "2"}], ": weight = '2' of 'a' must be a finite number above 0"),
    ([{"path": "a", "weight": float("inf")}], ": weight = inf of 'a' must be a finite number above 0"),
    (["a", ""], r"\[1\] has an empty path"),
    (["a", {"path": "a"}], " has the path 'a' twice; its weight says how often it is read"),
    ("", " is missing from the configuration"),
]


@pytest.mark.parametrize(("value", "message"), BAD)
@pytest.mark.parametrize(("task", "key"), [("sft", "dataset_name_or_path"), ("dpo", "train_dataset_path")])
def test_bad_lists_are_refused_before_paddle_is_imported(task, key, value, message, task_config, tmp_path):
    path = tmp_path / "config.json"
    config = {**task_config(task), key: value}
    path.write_text(json.dumps(config))
    for check in (lambda: check_early(path), lambda: TASKS[task].arguments(config)):
        with pytest.raises(ConfigError, match=f"^{key}{message}"):
            check()


def test_a_weight_of_evaluation_data_is_refused():
    assert data_sets_of("dev_dataset_path", ["a", {"path": "b", "weight": 1}]) == (DataSet("a"), DataSet("b"))
    assert data_sets_of("train_dataset_path", Path("a")) == (DataSet("a"),)
    with pytest.raises(ConfigError, match="^dev_dataset_path: weight = 2.0 has no effect"):
        data_sets_of("dev_dataset_path", [{"path": "a", "weight": 2}])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("key", TASKS)
def test_a_run_reports_what_it_took_of_every_data_set(key, lazy, task_config, tmp_path):
    config = {**task_config(key), "lazy": lazy, "max_steps": 2, "do_eval": False, "load_best_model_at_end": False}
    name = "dataset_name_or_path" if "dataset_name_or_path" in config else "train_dataset_path"
    (source,) = (split_sources if name == "dataset_name_or_path" else path_sources)(config[name], "train")
    rows = [json.loads(record) for record, _ in source.lines()]
    other = tmp_path / "other.json"
    write_array(other, rows[: len(rows) // 2])
    config[name] = [{"path": config[name], "weight": 0.5}, {"path": str(other), "weight": 2}]
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, "output_dir": str(tmp_path / "out"), "save_strategy": "no"}))
    said: list[str] = []
    result = train(path, write=said.append)
    expected = [(len(rows), int(len(rows) / 2 + 0.5)), (len(rows) // 2, len(rows) // 2 * 2)]
    assert [(entry["rows"], entry["taken"]) for entry in result.data_sets] == expected
    summary = json.loads((tmp_path / "out" / "training_summary.json").read_text())
    assert summary["data_sets"] == result.data_sets and len(result.losses) == 2
    paths = [entry["path"] for entry in config[name]]
    taken = [f"{got} of {count} rows of {path}" for (count, got), path in zip(expected, paths, strict=True)]
    assert any(line.startswith("training") and line.endswith(f"taken: {', '.join(taken)}") for line in said)
    if not lazy and key in ("sft", "dpo"):
        assert dict(inspect(tmp_path / "config.json", batches=0, write=said.append).facts)["taken"] == ", ".join(taken)


def test_a_run_with_other_weights_is_not_continued(sft_config, data_folder, tmp_path):
    rows = [json.loads(line) for line in (data_folder / "train.json").read_text().splitlines()]
    write_lines(tmp_path / "a.jsonl", rows[:20])
    write_lines(tmp_path / "b.jsonl", rows[20:40])
    path = tmp_path / "config.json"

    def run(data, **changes):
        config = {**sft_config, **SAVING, "lr_scheduler_type": "constant", "dataset_name_or_path": data, **changes}
        path.write_text(json.dumps(config))
        return train(path, write=lambda line: None)

    a, b = ({"path": str(tmp_path / name), "weight": weight} for name, weight in (("a.jsonl", 0.5), ("b.jsonl", 2)))
    whole = run([a, b], max_steps=6, output_dir=str(tmp_path / "whole"))
    run([a, b])
    with pytest.raises(ConfigError, match=r"data_weights = \[0.5, 2.0\] \(now \[0.5, 1.0\]\)"):
        run([a, b["path"]], max_steps=6)
    with pytest.raises(ConfigError, match="other training data"):
        run([b, a], max_steps=6)
    assert run([a, b], max_steps=6).losses == whole.losses[4:]
    run(a["path"], output_dir=str(tmp_path / "one"))
    for manifest in [*(tmp_path / "one").rglob("checkpoint.json"), tmp_path / "one" / "finished.json"]:
        values = json.loads(manifest.read_text())
        assert values["run"].pop("data_weights") == [1.0]  # as a run of the last release has left it
        manifest.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"data_weights = \[1.0\] \(now \[2.0\]\)"):
        run([{**a, "weight": 2}], max_steps=6, output_dir=str(tmp_path / "one"))
