"""Answers generated after an evaluation are those of repeated full passes, and training does not notice them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import paddle
import pytest
from model_cases import MODELS, build
from paddlenlp.trainer import TrainerCallback
from paddlenlp.transformers import AutoModelForCausalLM
from run_folders import SAVING, weights_in

import paddle_flashmask
from paddle_flashmask.integrations.paddlenlp import ConfigError, UnsupportedConfigError, train
from paddle_flashmask.integrations.paddlenlp.config.values import check_early
from paddle_flashmask.integrations.paddlenlp.decoding import decode
from paddle_flashmask.integrations.paddlenlp.samples import Samples, greedy_answer, questions_of

EVALUATED = {"evaluation_strategy": "steps", "eval_steps": 2, "report_to": "none", "load_best_model_at_end": False}
SAMPLES = {"generate_samples": 2, "generate_max_new_tokens": 6}


def answer_of_full_passes(model, tokens: list[int], most: int, ends: list[int]) -> list[int]:
    model.eval()
    ids = list(tokens)
    while len(ids) < len(tokens) + most:
        with paddle.no_grad():
            out = model(input_ids=paddle.to_tensor([ids]))
        logits = out[0] if isinstance(out, (tuple, list)) else out
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] in ends:
            break
    return ids[len(tokens) :]


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_is_that_of_full_passes(name):
    with paddle_flashmask.enabled():
        model = build(name, flash=True)
        for prompt in ([5, 7, 9, 11, 3], [8]):
            whole = answer_of_full_passes(model, prompt, 8, [])
            model.train()
            assert greedy_answer(model, prompt, 8, [63]) == whole[: whole.index(63) + 1 if 63 in whole else 8]
            assert greedy_answer(model, prompt, 8, [62, whole[2]]) == whole[: whole.index(whole[2]) + 1]
            assert model.training


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_samples_of_a_run(name, sft_config, model_folders, data_folder, tokenizer, tmp_path):
    lines: list[str] = []
    changes = {**EVALUATED, **SAMPLES, "model_name_or_path": str(model_folders[name]), "max_steps": 4, "lazy": False}
    train({**sft_config, **changes}, write=lines.append)
    found = records(tmp_path / "out")
    assert [record["step"] for record in found] == [2, 2, 4, 4]
    rows = [json.loads(line) for line in (data_folder / "dev.json").read_text().splitlines()][:2]
    for record, row in zip(found, rows * 2, strict=True):
        assert row["src"] in record["question"] and record["expected"].strip() == row["tgt"] + "</s>"
        for part in ("question", "generated", "expected"):
            assert f"  {part}: {record[part]!r}" in lines
    assert lines.count("sample after step 4") == 2
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path / "out"))
    for record in found[2:]:
        tokens = tokenizer(record["question"].removeprefix("<s>"))["input_ids"]
        assert decode(tokenizer, tokens) == record["question"]
        assert decode(tokenizer, answer_of_full_passes(model, tokens, 6, [2])) == record["generated"]


class States(TrainerCallback):
    """Random numbers, which show the random state, and the modes of all layers at every step."""

    def __init__(self):
        self.seen: list = []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        modes = [layer.training for layer in model.sublayers(include_self=True)]
        self.seen.append((paddle.rand([4]).tolist(), modes))


@pytest.mark.parametrize("lora", [False, True])
def test_training_is_the_same_bits_with_samples(lora, sft_config, tmp_path):
    outcomes = []
    for number, samples in enumerate(({}, SAMPLES)):
        states, out = States(), tmp_path / str(number)
        changes = {**EVALUATED, **samples, "max_steps": 5, "lazy": False, "lora": lora, "output_dir": str(out)}
        result = train({**sft_config, **changes}, callbacks=[states], write=lambda line: None)
        evaluations = [(evaluation["step"], evaluation["eval_loss"]) for evaluation in result.evaluations]
        outcomes.append((result.losses, evaluations, states.seen, weights_in(out)))
    plain, sampled = outcomes
    assert plain[:3] == sampled[:3] and len(plain[0]) == 5 and len(plain[1]) == 3
    assert all((plain[3][name] == value).all() for name, value in sampled[3].items())
    assert (tmp_path / "1" / "samples.jsonl").is_file() and not (tmp_path / "0" / "samples.jsonl").exists()


def test_a_resumed_run_keeps_the_answers_up_to_its_checkpoint(sft_config, tmp_path):
    config = {**sft_config, **SAVING, **EVALUATED, **SAMPLES, "generate_samples": 1, "eval_steps": 1}
    train({**config, "max_steps": 4}, write=lambda line: None)
    before = records(tmp_path / "out")
    assert [record["step"] for record in before] == [1, 2, 3, 4]
    (tmp_path / "out" / "finished.json").unlink()
    train({**config, "max_steps": 4, "resume_from_checkpoint": str(tmp_path / "out" / "checkpoint-2")}, write=print)
    assert records(tmp_path / "out") == before
    train({**config, "max_steps": 1, "overwrite_output_dir": True}, write=lambda line: None)
    assert [record["step"] for record in records(tmp_path / "out")] == [1]


def test_a_resumed_run_reads_any_text_and_drops_a_record_without_end(tmp_path):
    path = tmp_path / "samples.jsonl"
    whole = [json.dumps({"step": step, "generated": "a\u2028b\x85\x0c"}, ensure_ascii=False) + "\n" for step in (1, 2)]
    path.write_text("".join(whole) + '{"step": 3, "gen', encoding="utf-8")
    args, state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(global_step=1)
    samples = Samples(None, [], 1, 1, print)
    samples.on_train_begin(args, state, None)
    assert path.read_text(encoding="utf-8") == whole[0]


def test_the_question_is_what_precedes_the_last_answer():
    ids = [1, 5, 6, 7, 8, 9]
    rows = [
        {"input_ids": ids, "labels": [-100] * 6},
        {"input_ids": ids, "labels": [-100, 6, -100, -100, 9, 2]},
        {"input_ids": ids, "labels": [5, 6, 7, 8, 9, 2]},
        {"input_ids": ids, "labels": [-100, 6, 7, 8, -100, -100]},
    ]
    found = [(question.tokens, question.expected) for question in questions_of(rows, 5)]
    assert found == [([1, 5, 6, 7, 8], [9, 2]), ([1], [5, 6, 7, 8, 9, 2]), ([1, 5], [6, 7, 8])]
    assert len(questions_of(rows, 2)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generate_samples": 2}, "generate_samples = 2 needs do_eval = true or an evaluation_strategy"),
        ({"generate_samples": -1}, "generate_samples = -1 must be at least 0"),
        ({"generate_max_new_tokens": 5}, "generate_max_new_tokens needs generate_samples"),
        ({**EVALUATED, **SAMPLES, "generate_max_new_tokens": 0}, "generate_max_new_tokens = 0 must be at least 1"),
        (
            {**EVALUATED, **SAMPLES, "attention_mask_type": "document"},
            "generate_samples = 2 needs attention_mask_type = 'causal_document'",
        ),
        ({"task": "dpo", "generate_samples": 1}, "'dataset_name_or_path' is a key of sft, policy"),
    ],
)
def test_errors_come_early(changes, message, sft_config):
    with pytest.raises((ConfigError, UnsupportedConfigError)) as caught:
        check_early({**sft_config, **changes})
    assert str(caught.value).startswith(message)
