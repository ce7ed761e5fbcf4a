"""`paddle-flashmask verify` passes what is right and finds planted leaks, in every task."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from sentences import sentence, write_rows
from support.chat_templates import TEMPLATES, TOOL_TEMPLATES, Template
from talks import rounds_of_talks

from paddle_flashmask import functional
from paddle_flashmask.cli import main
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.packs import PackCollator
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.verification import alone, configuration, leaks, structure, texts
from paddle_flashmask.integrations.paddlenlp.verification.layout import segments_of
from paddle_flashmask.integrations.paddlenlp.verification.report import Report

COLUMNS = "attn_mask_startend_row_indices"
LABELS = ("labels", "chosen_labels", "rejected_labels", "response_labels", "response_kl_labels")
DENSE = {"flash_mask": False, "use_flash_attention": False}


@pytest.fixture
def verified(task_config, tmp_path) -> Callable[..., Report]:
    """A function that verifies the small configuration of a task with changes."""

    def run(key: str, batches: int = 2, **changes) -> Report:
        path = tmp_path / "config.json"
        values = {**task_config(key), "output_dir": str(tmp_path / "out"), "load_best_model_at_end": False}
        path.write_text(json.dumps({**values, **changes}))
        report = configuration.verify_config(path, batches=batches, write=lambda line: None)
        assert not (tmp_path / "out").exists()
        return report

    return run


def wrong(report: Report) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


def model_with(folder: Path, model_folders: dict[str, Path], template: Template) -> Template:
    """Copy the tiny Llama and give its tokenizer the chat template."""
    shutil.copytree(model_folders["llama"], folder)
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "chat_template": template.source}))
    return template


def plant(monkeypatch, change: Callable[[dict], None]) -> None:
    """Change every collated batch."""
    collate = PackCollator.__call__

    def changed(self, packs):
        batch = collate(self, packs)
        change(batch)
        return batch

    monkeypatch.setattr(PackCollator, "__call__", changed)


@pytest.mark.parametrize("options", [{"lazy": True, "lora": True}, {"lazy": False, "per_device_train_batch_size": 2}])
@pytest.mark.parametrize("key", TASKS)
def test_every_task_passes(key, options, verified):
    report = verified(key, **options)
    assert report.passed, report
    names = {check.name for check in report.checks if check.checked}
    assert {leaks.DOCUMENTS, leaks.FUTURE, alone.LOSSES, alone.OUTPUTS, structure.POSITIONS, texts.NAME} <= names
    assert (leaks.BRANCHES in names) == (key != "sft")
    assert (structure.SCORED if key == "rm" else structure.LABELS) in names


@pytest.mark.parametrize("mask", [{}, DENSE])
@pytest.mark.parametrize(
    "kind",
    [
        {"attention_mask_type": "document"},
        {"attention_mask_type": "prefix_lm_document"},
        {"attention_mask_type": "sliding_window", "attention_window_size": 4},
    ],
)
def test_every_kind_of_attention_passes(kind, mask, verified):
    report = verified("sft", **kind, **mask)
    assert report.passed and (leaks.FUTURE in str(report)) == (kind["attention_mask_type"] == "sliding_window"), report


@pytest.mark.parametrize("kind", ["document", "prefix_lm_document"])
def test_one_document_in_both_directions_passes_on_the_flash_path(kind, verified):
    options = {"zero_padding": False, "greedy_zero_padding": False, "flash_mask": False, "use_flash_attention": True}
    report = verified("sft", attention_mask_type=kind, **options)
    assert report.passed, report


@pytest.mark.parametrize("by", [1, -1])
@pytest.mark.parametrize("key", TASKS)
def test_a_mask_off_by_one_is_found(key, by, verified, monkeypatch):
    def shift(batch):
        columns = batch[COLUMNS]
        batch[COLUMNS] = np.where(columns > 0, np.minimum(columns + by, columns.max()), 0).astype(np.int32)

    plant(monkeypatch, shift)
    found = wrong(verified(key))
    assert alone.OUTPUTS in found
    if by == 1:
        assert leaks.DOCUMENTS in found and (leaks.BRANCHES in found) == (key != "sft")


def test_a_mask_of_both_directions_off_by_one_is_found(verified, monkeypatch):
    """The first row of a document that a key sees is one too early."""

    def shift(batch):
        batch[COLUMNS][..., 1] = np.maximum(batch[COLUMNS][..., 1] - 1, 0)

    plant(monkeypatch, shift)
    assert leaks.DOCUMENTS in wrong(verified("sft", attention_mask_type="document"))


@pytest.mark.parametrize("key", TASKS)
def test_a_dense_path_without_its_mask_is_found(key, verified, monkeypatch):
    plant(monkeypatch, lambda batch: batch.pop("attention_mask"))
    found = wrong(verified(key, **DENSE))
    assert {leaks.DOCUMENTS, alone.OUTPUTS} <= found and (leaks.BRANCHES in found) == (key != "sft")


def test_an_operator_that_ignores_the_columns_is_found(verified, monkeypatch):
    operator = functional.flashmask_attention

    def without(query, key, value, startend_row_indices=None, causal=False, **options):
        return operator(query, key, value, causal=causal)

    monkeypatch.setattr(functional, "flashmask_attention", without)
    assert {leaks.DOCUMENTS, alone.OUTPUTS} <= wrong(verified("sft"))


def test_a_mask_that_shows_the_future_is_found(verified, monkeypatch):
    operator = functional.flashmask_attention

    def seen_ahead(query, key, value, startend_row_indices=None, causal=False, **options):
        return operator(query, key.roll(-1, axis=1), value.roll(-1, axis=1), startend_row_indices, causal=causal)

    monkeypatch.setattr(functional, "flashmask_attention", seen_ahead)
    assert {leaks.FUTURE, alone.OUTPUTS} <= wrong(verified("sft"))


@pytest.mark.parametrize("key", TASKS)
def test_positions_that_do_not_restart_are_found(key, verified, monkeypatch):
    def count_on(batch):
        batch["position_ids"] = np.broadcast_to(np.arange(batch["input_ids"].shape[1]), batch["input_ids"].shape)

    plant(monkeypatch, count_on)
    found = wrong(verified(key))
    assert structure.POSITIONS in found
    assert (alone.OUTPUTS in found) == (
        key != "sft"
    )  # rotary positions are relative, but answers follow their question


@pytest.mark.parametrize("by", [1, -1])
@pytest.mark.parametrize("key", TASKS)
def test_labels_shifted_by_one_are_found(key, by, verified, monkeypatch):
    def shift(batch):
        for name in LABELS:
            if name in batch:
                batch[name] = np.roll(batch[name], by, axis=1)
        if "answer_places" in batch:
            batch["answer_places"][:, 1] += by

    plant(monkeypatch, shift)
    found = wrong(verified(key, batches=0))
    assert (structure.SCORED if key == "rm" else structure.LABELS) in found
    assert (texts.NAME in found) == (key not in ("sft", "rm") or (key, by) == ("sft", 1))


@pytest.mark.parametrize("wanted", [slice(1, None), slice(None, -1)])
def test_learned_text_that_is_not_the_answer_is_found(wanted, verified, monkeypatch):
    """Labels of the next tokens, but one learned token is missing at the beginning or at the end of each answer."""
    encode = SFTTokens._encode_single

    def marked(self, row):
        tokens, answer, cut = encode(self, row)
        kept = np.flatnonzero(answer)[wanted]
        return tokens, [place in kept for place in range(len(tokens))], cut

    monkeypatch.setattr(SFTTokens, "_encode_single", marked)
    report = verified("sft", batches=0)
    if wanted.start:
        assert wrong(report) == {texts.NAME}
    else:  # every answer without its end token: allowed, but told
        assert report.passed and "no end token is learned" in str(report)


def test_answers_of_two_rows_in_one_document_are_found(verified, monkeypatch):
    lengths = configuration.documents_in

    def two_as_one(pack):
        first, second, *others = [*lengths(pack), 0]
        return [first + second, *others]

    monkeypatch.setattr(configuration, "documents_in", two_as_one)
    assert texts.NAME in wrong(verified("sft", batches=0, lazy=False))


class CharacterTokenizer:
    """Tokens are characters, and the end token of one."""

    all_special_tokens = ("</s>",)

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [ord(character) for character in text]}

    def decode(self, ids, **options):
        return "".join("</s>" if i == 2 else chr(i) for i in ids)


@pytest.mark.parametrize(("learned", "passes"), [("yes\2", True), ("s\2", True), ("yes\2 no\2", False)])
def test_an_end_holds_no_other_answer_of_the_row(learned, passes):
    """Otherwise two answers learned as one would pass wherever all rows have the same."""
    answers = [{"role": "assistant", "content": text} for text in ("yes", "no", "s")]
    found = texts.AnswerTexts(CharacterTokenizer(), SimpleNamespace(rows=[SimpleNamespace(answers=answers)]))
    labels = np.array([[ord(character) for character in learned]])
    found.add(labels, labels, segments_of([[labels.shape[1]]], labels.shape[1]))
    assert (found.check(0).wrong == 0) is passes


def test_as_many_answers_may_be_cut_as_rows_were(verified, tmp_path, monkeypatch):
    rng = random.Random(3)
    rows = [{"src": sentence(rng, 3, 9), "tgt": sentence(rng, 5, 60)} for _ in range(40)]
    write_rows(tmp_path / "train.json", rows)
    report = verified("sft", batches=0, dataset_name_or_path=str(tmp_path), lazy=False)
    assert report.passed, report
    kept = texts.AnswerTexts.check
    monkeypatch.setattr(texts.AnswerTexts, "check", lambda self, cut_rows: kept(self, cut_rows - 5))
    assert wrong(verified("sft", batches=0, dataset_name_or_path=str(tmp_path), lazy=False)) == {texts.NAME}


@pytest.mark.parametrize("key", ["sft", "dpo"])
@pytest.mark.parametrize("name", ["chatml", "llama2", "llama3", "qwen3", "gemma", "mistral"])
def test_chat_templates_pass(name, key, verified, model_folders, tmp_path):
    folder = tmp_path / "model"
    model_with(folder, model_folders, TEMPLATES[name])
    rng = random.Random(7)
    talks = []
    for number in range(12):
        turns = [(sentence(rng, 2, 5), sentence(rng, 1, 6)) for _ in range(1 + number % 3)]
        messages = [
            {"role": role, "content": turn[i]} for turn in turns for i, role in enumerate(("user", "assistant"))
        ]
        prompt, answer = messages[:-1], messages[-1]
        other = {"role": "assistant", "content": sentence(rng, 1, 6)}
        talks.append(
            {"messages": messages} if key == "sft" else {"prompt": prompt, "chosen": answer, "rejected": other}
        )
    write_rows(tmp_path / "train.json", talks)
    data = {"dataset_name_or_path": str(tmp_path), "max_length": 512, "src_length": 256}
    if key != "sft":
        data = {"train_dataset_path": str(tmp_path / "train.json"), "max_seq_len": 512, "chat_template": str(folder)}
    report = verified(key, batches=0, model_name_or_path=str(folder), lazy=False, **data)
    assert report.passed, report
    assert repr(TEMPLATES[name].end.strip()) in str(report)


@pytest.mark.parametrize("key", ["sft", "dpo", "rm", "kto"])
def test_prefix_trees_pass_and_faults_in_them_are_found(key, verified, tmp_path, monkeypatch):
    rng = random.Random(9)
    starts = [sentence(rng, 2, 4) for _ in range(3)]
    rows = [{"src": rng.choice(starts), "tgt": f"{rng.choice(starts)} {sentence(rng, 1, 3)}"} for _ in range(30)]
    write_rows(tmp_path / "train.json", rows if key == "sft" else rounds_of_talks(key, talks=4, rounds=2))
    data = {"dataset_name_or_path": str(tmp_path)}
    if key != "sft":
        data = {"train_dataset_path": str(tmp_path / "train.json")}
    options = {**data, "share_prefixes": True, "lazy": False, "batches": 1}
    report = verified(key, **options)
    assert report.passed, report
    names = {check.name for check in report.checks if check.checked}
    assert {leaks.BRANCHES, texts.NAME, structure.SCORED if key == "rm" else structure.LABELS} <= names
    with monkeypatch.context() as patch:
        plant(patch, lambda batch: np.copyto(batch[COLUMNS], batch[COLUMNS].max(), where=batch[COLUMNS] > 0))
        expected = {leaks.BRANCHES, alone.OUTPUTS} | ({leaks.DOCUMENTS} if key == "sft" else set())
        assert expected <= wrong(verified(key, **options))
    if key == "rm":
        plant(monkeypatch, lambda batch: np.add.at(batch["answer_places"], (slice(None), 1), -1))
        assert structure.SCORED in wrong(verified(key, **{**options, "batches": 0}))


@pytest.mark.parametrize("key", ["sft", "policy", "dpo", "kto"])
def test_a_question_may_go_on_from_the_answer_of_another_row(key, verified, tmp_path, monkeypatch):
    """The tree learns both, one right after the other; the row itself learns its own answer only."""
    questions = {"baling": ["chene mor", "fol"], "baling chene": ["dimor rix", "hu"], "gramor": ["chene", "hu"]}
    rows = {
        "sft": [{"src": question, "tgt": answer} for question, answers in questions.items() for answer in answers],
        "policy": [{"prompt": q, "answers": answers, "advantages": [1, -1]} for q, answers in questions.items()],
        "dpo": [{"prompt": q, "chosen": chosen, "rejected": other} for q, (chosen, other) in questions.items()],
        "kto": [{"prompt": q, "completion": answers[0], "label": True} for q, answers in questions.items()],
    }[key]
    write_rows(tmp_path / "train.json", rows)
    name = "dataset_name_or_path" if key in ("sft", "policy") else "train_dataset_path"
    data = {name: str(tmp_path if key in ("sft", "policy") else tmp_path / "train.json")}
    options = {**data, "share_prefixes": True, "lazy": False, "batches": 0}
    report = verified(key, **options)
    assert report.passed, report
    plant(monkeypatch, lambda batch: np.copyto(batch["labels"], batch["input_ids"], where=batch["labels"] != -100))
    assert texts.NAME in wrong(verified(key, **options))


def test_tool_calls_pass(verified, model_folders, tmp_path):
    folder = tmp_path / "model"
    template = model_with(folder, model_folders, TOOL_TEMPLATES["hermes"])
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 4}}}
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"baling {number}"},
                {"role": "assistant", "content": "chene", "tool_calls": [call]},
                {"role": "tool", "content": "4"},
                {"role": "assistant", "content": "dimor"},
            ]
        }
        for number in range(6)
    ]
    write_rows(tmp_path / "train.json", rows)
    options = {"dataset_name_or_path": str(tmp_path), "max_length": 512, "src_length": 256, "lazy": False}
    report = verified("sft", batches=0, model_name_or_path=str(folder), **options)
    assert report.passed and next(check for check in report.checks if check.name == texts.NAME).checked == 12, report
    assert template.end.strip() in str(report)


def test_exit_status_and_table(task_config, tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(task_config("dpo")))
    done = CliRunner().invoke(main, ["verify", str(path), "--lazy", "false", "--batches", "1"])
    assert done.exit_code == 0 and done.output.count("  ok") == 8 and "FAILED" not in done.output, done.output
    plant(monkeypatch, lambda batch: batch["position_ids"].fill(0))
    done = CliRunner().invoke(main, ["verify", str(path), "--batches", "1"])
    assert done.exit_code == 1 and "FAILED" in done.output
    path.write_text(json.dumps({**task_config("dpo"), "continue_training": True}))
    done = CliRunner().invoke(main, ["verify", str(path)])
    assert done.exit_code == 1 and "Error: " in done.output and "no weights" in done.output


def test_evaluation_data_is_verified_where_nothing_is_trained(verified, data_folder):
    report = verified("sft", do_train=False, do_eval=True)
    assert report.passed
    rows = len(Path(data_folder / "dev.json").read_text().splitlines())
    assert next(check for check in report.checks if check.name == texts.NAME).checked == rows


def test_batches_with_several_documents_run_first(verified, tmp_path):
    rows = [{"src": "baling", "tgt": "chene dimor " * 60}] * 3 + [{"src": "rix", "tgt": "gramor ne"}] * 20
    write_rows(tmp_path / "train.json", rows)
    data = {"dataset_name_or_path": str(tmp_path), "lazy": True, "greedy_zero_padding": False}
    report = verified("sft", batches=1, gradient_accumulation_steps=1, **data)
    assert report.passed and next(check for check in report.checks if check.name == leaks.DOCUMENTS).checked
