"""`paddle-flashmask inspect` shows what training would read, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from paddle_flashmask.cli import main
from paddle_flashmask.integrations.paddlenlp.documents import batches_of
from paddle_flashmask.integrations.paddlenlp.inputs import RunInputs, read_task
from paddle_flashmask.integrations.paddlenlp.inspection.inspect import Inspection, mask_of
from paddle_flashmask.integrations.paddlenlp.inspection.inspect import inspect as inspect_config
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.train import train


def discard(line: str) -> None:
    """Drop notes."""


@pytest.fixture
def written(task_config, tmp_path) -> Callable[..., Path]:
    """A function that writes the small configuration of a task, with changes, and returns its path."""

    def write(key: str, **changes) -> Path:
        path = tmp_path / "config.json"
        values = {**task_config(key), "output_dir": str(tmp_path / "out"), "load_best_model_at_end": False}
        path.write_text(json.dumps({**values, **changes}))
        return path

    return write


def facts(found: Inspection) -> dict[str, str]:
    return dict(found.facts)


def learned_texts(found: Inspection) -> list[str]:
    parts = [
        part for batch in found.batches for documents in batch.packs for document in documents for part in document
    ]
    return [text.strip() for part in parts for text, learned in part.spans if learned]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("key", TASKS)
def test_facts_are_those_of_the_run(key, lazy, written, tmp_path):
    changes = {"lazy": lazy, "max_steps": 3 if lazy else -1, "num_train_epochs": 1, "autotuner_benchmark": False}
    path = written(key, **changes, benchmark=False)
    found = inspect_config(path, batches=2, write=discard)
    assert not (tmp_path / "out").exists()
    assert found.task == key and len(found.batches) == 2
    result = train(path, write=discard)
    report, shown = result.packing, facts(found)
    if not lazy:
        assert shown["steps"].startswith(f"{len(result.step_seconds)} per epoch; {len(result.step_seconds)} in the run")
        assert shown["rows"] == f"{report.packed_rows} of {report.rows} in {report.packs} packs of {report.max_length}"
        assert shown["efficiency"].startswith(f"{report.efficiency:.1%}: {report.tokens:,} tokens")
    assert shown["steps"].split("; ")[1].startswith(f"{len(result.step_seconds)} in the run")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("key", ["sft", "dpo"])
def test_first_batches_are_those_of_training(key, lazy, written, tmp_path):
    task, arguments = read_task(written(key, lazy=lazy, per_device_train_batch_size=2, max_steps=2), (), discard)
    inputs = RunInputs.load(task, arguments, discard)
    data = inputs.packs(inputs.rows("train"), "train")
    inputs.settle_model()
    trainer = inputs.trainer(inputs.model(), data, None, [])
    loader = trainer.get_train_dataloader()
    if not lazy:
        loader.batch_sampler.set_epoch(0)
    ours = batches_of(data, "train", arguments.training)
    for _, packs, batch in zip(range(3), ours, loader, strict=False):
        np.testing.assert_array_equal(inputs.collator()(packs)["input_ids"], batch["input_ids"].numpy())


def test_learned_text_is_the_answers(written, data_folder, preference_file):
    rows = [json.loads(line) for line in (data_folder / "train.json").read_text().splitlines()]
    texts = learned_texts(inspect_config(written("sft"), batches=3, write=discard))
    assert len(texts) > 5 and set(texts) <= {row["tgt"] + "</s>" for row in rows}
    rows = [json.loads(line) for line in preference_file.read_text().splitlines()]
    texts = learned_texts(inspect_config(written("dpo"), batches=3, write=discard))
    assert len(texts) > 8 and set(texts) <= {answer + "</s>" for row in rows for answer in row["response"]}
    scored = learned_texts(inspect_config(written("rm"), batches=1, write=discard))
    assert len(scored) > 3 and set(scored) == {"</s>"}
    found = inspect_config(written("kto"), batches=1, write=discard)
    names = {part.name for documents in found.batches[0].packs for document in documents for part in document}
    assert {"prompt", "wanted", "not wanted"} < names


def test_prefix_trees_are_shown_branch_by_branch(written, tmp_path):
    rows = [{"src": "baling dimor", "tgt": f"chene {end}"} for end in ("rix", "folne rix", "folne hune")]
    (tmp_path / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = written(
        "sft", dataset_name_or_path=str(tmp_path), share_prefixes=True, lazy=False, gradient_accumulation_steps=1
    )
    found = inspect_config(path, write=discard)
    assert "in 1 tree" in facts(found)["sharing"] and facts(found)["rows"].startswith("3 of 3")
    ((parts,),) = found.batches[0].packs
    shown = sorted((part.name, "".join(text for text, _ in part.spans).strip()) for part in parts)
    assert shown == [
        ("branch from token 3", "chene rix</s>"),  # a branch begins with the token before it
        ("branch from token 4", "folne hune</s>"),
        ("branch from token 4", "folne rix</s>"),
        ("shared prefix from token 0", "<s>baling dimor"),
        ("shared prefix from token 3", "chene"),
    ]
    assert {learned for part in parts[1:] for _, learned in part.spans} == {True}
    assert [learned for _, learned in parts[0].spans] == [False]


def test_trees_of_answers_name_the_answers_that_end_in_a_branch(written, tmp_path):
    rounds = [(["baling"], [], ["dimor rix", "dimor hune"]), (["baling", "chene"], ["dimor rix"], ["grane", "folmor"])]
    rows = [{"src": src, "tgt": tgt, "response": response, "sort": [2, 1]} for src, tgt, response in rounds]
    (tmp_path / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"train_dataset_path": str(tmp_path / "train.json"), "share_prefixes": True, "lazy": False}
    found = inspect_config(written("dpo", **data, gradient_accumulation_steps=1), write=discard)
    assert "in 1 tree" in facts(found)["sharing"] and facts(found)["rows"].startswith("2 of 2")
    ((parts,),) = found.batches[0].packs
    roles = [part.name.partition(": ")[2] for part in parts]
    assert sorted(filter(None, roles)) == ["chosen (1)", "chosen (2)", "rejected (1)", "rejected (2)"]
    ends = {text.split()[-1] for text in learned_texts(found)}
    assert {"rix</s>", "hune</s>", "grane</s>", "folmor</s>"} <= ends
    scored = inspect_config(written("rm", **data, gradient_accumulation_steps=1), write=discard)
    names = [part.name for part in scored.batches[0].packs[0][0]]
    assert sum(": answer of rank" in name for name in names) == 4 and set(learned_texts(scored)) == {"</s>"}


def test_what_is_cut_is_told(written, tmp_path):
    rows = [{"src": "baling", "tgt": "chene dimor " * 60}, *[{"src": "rix", "tgt": "gramor ne"}] * 20]
    (tmp_path / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = facts(inspect_config(written("sft", dataset_name_or_path=str(tmp_path)), write=discard))
    assert found["cut, dropped"] == "1 row cut to src_length or max_length"
    row = {"src": "baling " * 90, "response": ["hune " * 90, "dine"], "sort": [1, 0]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    path = written("dpo", train_dataset_path=str(tmp_path / "pairs.jsonl"), lazy=False)
    assert re.fullmatch(r"1 row cut by \d+ tokens in all", facts(inspect_config(path, write=discard))["cut, dropped"])


def test_the_mask_is_that_of_the_batch(written):
    for kind in ("causal_document", "prefix_lm_document"):
        columns = inspect_config(written("sft", attention_mask_type=kind), write=discard).batches[0].mask
        dense = {"flash_mask": False, "use_flash_attention": False}
        path = written("sft", attention_mask_type=kind, **dense)
        assert columns.equivalent(inspect_config(path, write=discard).batches[0].mask)
        assert columns.causal == (kind == "causal_document")
    empty = {"attn_mask_startend_row_indices": np.zeros((1, 1, 4), dtype=np.int32)}
    assert mask_of(empty, object()).statistics().visible_pairs == 0


@pytest.mark.parametrize("lazy", ["false", "true"])
def test_steps_estimate_the_time_and_save_nothing(written, tmp_path, model_folders, lazy):
    path = written("dpo", save_strategy="steps", save_steps=1, logging_first_step=True, report_to="visualdl")
    before = set(tmp_path.rglob("*"))
    words = ["inspect", str(path), "--steps", "3", "--lazy", lazy, "--batches", "0"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert re.search(r"time +\d+\.\d{3} s per step \(median of 3\); about .* for 5 steps", done.output)
    assert set(tmp_path.rglob("*")) == before


def test_only_steps_need_weights(written, tmp_path):
    path = written("sft", continue_training=True)
    assert inspect_config(path, write=discard).batches
    done = CliRunner().invoke(main, ["inspect", str(path), "--steps", "1"])
    assert done.exit_code == 1 and "holds a model configuration but no weights" in done.output
    assert not (tmp_path / "out").exists()


def test_evaluation_data_alone(written, data_folder):
    found = inspect_config(written("sft", do_train=False, do_eval=True), write=discard)
    assert facts(found)["evaluation data"] == str(data_folder / "dev.json")
    assert facts(found)["rows"].startswith("12 of 12") and "steps" not in facts(found) and found.batches


def test_the_page_holds_every_document_and_a_picture_of_every_mask(written, tmp_path, data_folder):
    row = {"src": "<b> &", "tgt": "<i>dine"}
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.json").write_text((json.dumps(row) + "\n") * 40)
    path = written("sft", dataset_name_or_path=str(folder), per_device_train_batch_size=2, lazy=False)
    page = tmp_path / "page.html"
    words = ["inspect", str(path), "--html", str(page), "--batches", "2"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0 and f"written to {page}" in done.output
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/svg+xml;base64,") == 4 and text.count("<h2>") == 4
    assert text.count("<mark>") - 1 == text.count("<h3>") > 4
    assert "&lt;i&gt;dine&lt;/s&gt;</mark>" in text and "&lt;b&gt; &amp;" in text
    assert "more; --html shows all" in done.output


def test_a_page_that_cannot_be_written_is_refused_before_the_data_is_read(written, tmp_path, monkeypatch):
    path, page = str(written("sft")), tmp_path / "none" / "page.html"
    done = CliRunner().invoke(main, ["inspect", path, "--html", str(page)])
    assert done.exit_code == 1 and done.output == f"Error: cannot write {page}: {page.parent} is not a folder\n"
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    done = CliRunner().invoke(main, ["inspect", path, "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 1 and done.output == "Error: --html needs matplotlib: pip install matplotlib\n"


def test_learned_text_is_coloured_or_bracketed(written):
    path = str(written("sft"))
    plain = CliRunner().invoke(main, ["inspect", path]).output
    assert "⟦" in plain and "\x1b[" not in plain
    coloured = CliRunner().invoke(main, ["inspect", path, "--color"]).output
    assert "⟦" not in coloured and "\x1b[32m\x1b[1m" in coloured


def test_errors_are_one_line(written, tmp_path):
    done = CliRunner().invoke(main, ["inspect", str(written("sft", flash_maks=True))])
    assert done.exit_code == 1 and done.output.startswith("Error: unknown key 'flash_maks'")
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "train.json").write_text("\n")
    done = CliRunner().invoke(main, ["inspect", str(written("sft", dataset_name_or_path=str(empty), lazy=False))])
    assert done.exit_code == 1 and "Error: the training data holds no rows" in done.output
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n' * 3)
    reason = "Error: no row of the training data is left of 3: 3 rows dropped, whose answers are the same"
    for lazy in ("false", "true"):
        changes = ["--lazy", lazy, "--max_steps", "1"]
        done = CliRunner().invoke(main, ["inspect", str(written("dpo", train_dataset_path=str(pairs))), *changes])
        assert done.exit_code == 1 and reason in done.output


@pytest.mark.parametrize("option", ["--dry_run", "--dry-run"])
def test_a_dry_run_is_an_inspection(option, written, tmp_path):
    path = str(written("sft", output_dir=str(tmp_path / "out")))
    before = set(tmp_path.iterdir())
    shown = CliRunner().invoke(main, ["inspect", path, "--max_steps", "2"], catch_exceptions=False)
    done = CliRunner().invoke(main, ["train", path, option, "--max_steps", "2"], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, shown.output) and "2 in the run" in done.output
    assert set(tmp_path.iterdir()) == before
    for changes in ({"flash_maks": True}, {"dataset_name_or_path": str(tmp_path / "nothing")}):
        path = str(written("sft", **changes))
        shown, done = (CliRunner().invoke(main, words) for words in (["inspect", path], ["train", path, option]))
        assert (done.exit_code, done.output) == (shown.exit_code, shown.output) == (1, shown.output)
