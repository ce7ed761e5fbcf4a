"""Losses, gradients and evaluations are means over the terms of a step, however rows fall into packs, micro-batches and
processes. The reference is written with one row at a time, in float64."""

from __future__ import annotations

import itertools
import json
import pickle
import random
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from average_rank import REFERENCE_SCALE, Step, step_of
from paddlenlp.transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from sentences import WORDS, sentence, write_rows
from test_distributed import DATA_PARALLEL, launch
from tiny import TINY

from paddle_flashmask.integrations.paddlenlp.config.values import read_values
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError
from paddle_flashmask.integrations.paddlenlp.reward_model import reward_model_class
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.token_loss import TokenMean

PROGRAM = Path(__file__).with_name("average_rank.py")
ROWS = 9


def rows_of(key: str) -> list[dict]:
    """Answers of one to thirty words, so that means of means differ from the mean.

    Every second row goes on from the first answer of the one before, or for SFT has the same question.
    """
    rng = random.Random(6)

    def answer() -> str:
        return f"{sentence(rng, *rng.choice([(1, 2), (25, 30)]))} {rng.randrange(1000)}"

    rows: list[dict] = []
    earlier = "", ""
    for i in range(ROWS):
        question, answers = f"{WORDS[5 * (i // 2)]} {sentence(rng, 1, 4)} {i}", [answer() for _ in range(2 + i % 3)]
        sources, targets = [question], []
        if i % 2:
            sources, targets = [earlier[0], question], [earlier[1]]
        earlier = question, answers[0]
        response, sort = answers, list(range(len(answers), 0, -1))
        if key == "sft":
            sources, targets = sources[:1], answers[:1]
        elif key == "kto":
            response, sort = answers[:1], [int(i % 3 > 0)]
        elif key == "dpo":
            response, sort = answers[:2], [2, 1]
        row = {"src": sources, "tgt": targets}
        rows.append(row if key == "sft" else {**row, "response": response, "sort": sort})
    return rows


KEYS = [key for key in TASKS if key != "policy"]  # PaddleNLP has no such average; test_train_policy.py tests its own
OPTIONS = {
    "sft": {"src_length": 60, "max_length": 2000},
    "dpo": {"sft_loss_ratio": 0.5},
    "kto": {"desirable_weight": 1.0, "undesirable_weight": 1.3},
    "rm": {},
}


@pytest.fixture(scope="session")
def contrasts(tokenizer, tmp_path_factory) -> Path:
    """A model with large random weights, whose token losses differ widely."""
    folder = tmp_path_factory.mktemp("contrasts")
    tokenizer.save_pretrained(str(folder))
    shape = {**TINY, "max_position_embeddings": 2048, "initializer_range": 0.3}
    config = LlamaConfig(vocab_size=len(tokenizer), architectures=["LlamaForCausalLM"], **shape)
    config.save_pretrained(str(folder))
    return folder


@pytest.fixture
def config_of(contrasts, sft_config, dpo_config, tmp_path):
    """A function from a task's key to the configuration of one step over all its rows; it returns the file."""

    def make(key: str, name: str, **changes) -> Path:
        folder = tmp_path / f"{key}-{name}"
        folder.mkdir()
        write_rows(folder / "train.json", rows_of(key))
        write_rows(folder / "dev.json", rows_of(key))
        data = {"dataset_name_or_path": str(folder)} if key == "sft" else {}
        if key != "sft":
            data = {"train_dataset_path": str(folder / "train.json"), "dev_dataset_path": str(folder / "dev.json")}
            data |= {"max_seq_len": 4000, "max_prompt_len": 60}
        base = sft_config if key == "sft" else dpo_config
        values = {**base, **DATA_PARALLEL, **data, **OPTIONS[key], "task": key, "model_name_or_path": str(contrasts)}
        values |= {"max_steps": 1, "do_eval": True, "lazy": False, "output_dir": str(folder / "out"), "seed": 3}
        values |= {"warmup_ratio": 0.0, "max_grad_norm": 0.0, **changes}
        path = folder / "config.json"
        path.write_text(json.dumps(values))
        return path

    return make


def reference_step(key: str, config: Path, parameters: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    """Loss of all rows and its gradients, with float64 weights and one answer at a time."""
    task = TASKS[key]
    arguments = task.arguments(read_values(config))
    folder = arguments.model.model_name_or_path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token_id = tokenizer.eos_token_id
    rows = list(task.rows(arguments, tokenizer, "train"))
    model_config = LlamaConfig.from_pretrained(folder)
    model_class = reward_model_class(model_config) if key == "rm" else AutoModelForCausalLM
    model = double(model_class.from_config(model_config, dtype="float32"), parameters, 1.0)
    reference = double(model_class.from_config(model_config, dtype="float32"), parameters, REFERENCE_SCALE)
    loss = {"sft": sft_mean, "dpo": dpo_mean, "kto": kto_mean, "rm": rm_mean}[key](model, reference, rows)
    loss.backward()
    return float(loss), [parameter.grad.numpy() for parameter in model.parameters()]


def double(model, parameters: list[np.ndarray], scale: float):
    paddle.set_default_dtype("float64")
    try:
        model.to(dtype="float64")
    finally:
        paddle.set_default_dtype("float32")
    for parameter, value in zip(model.parameters(), parameters, strict=True):
        parameter.set_value(paddle.to_tensor(value.astype("float64") * scale))
    model.eval()
    return model


def log_probabilities(model, prompt: list[int], answer: list[int]) -> paddle.Tensor:
    """float64 [len(answer)]."""
    logits = model(paddle.to_tensor([[*prompt, *answer[:-1]]]))
    logits = logits[0] if isinstance(logits, tuple) else logits
    return -F.cross_entropy(
        logits[0, len(prompt) - 1 :].astype("float64"), paddle.to_tensor(answer), reduction="none"
    ).flatten()


def sft_mean(model, reference, rows):
    losses = []
    for row in rows:
        labels = np.asarray(row["labels"])
        start = int((labels == -100).sum()) + 1
        answer = labels[start - 1 :].tolist()
        losses.append(-log_probabilities(model, list(row["input_ids"])[:start], answer))
    return paddle.concat(losses).mean()


def dpo_mean(model, reference, rows):
    pairs, tokens = [], []
    for row in rows:
        chosen, rejected = (log_probabilities(model, row["prompt"], row[key]) for key in ("chosen", "rejected"))
        with paddle.no_grad():
            before = [log_probabilities(reference, row["prompt"], row[key]).sum() for key in ("chosen", "rejected")]
        pairs.append(-F.log_sigmoid(0.1 * (chosen.sum() - rejected.sum() - before[0] + before[1])))
        tokens.append(-chosen)
    return paddle.stack(pairs).mean() + 0.5 * paddle.concat(tokens).mean()


def kto_mean(model, reference, rows):
    rewards, kl = [], []
    for row in rows:
        for key, into in (("answer", rewards), ("kl_answer", kl)):
            policy = log_probabilities(model, row["prompt"], row[key]).sum()
            with paddle.no_grad():
                before = log_probabilities(reference, row["prompt"], row[key]).sum()
            into.append(policy - before)
    point = paddle.stack(kl).mean().detach().clip(min=0.0)
    losses = [
        1 - F.sigmoid(0.1 * (reward - point)) if row["desirable"] else 1.3 * (1 - F.sigmoid(0.1 * (point - reward)))
        for reward, row in zip(rewards, rows, strict=True)
    ]
    return paddle.stack(losses).mean()


def rm_mean(model, reference, rows):
    questions = []
    for row in rows:
        scores = []
        for answer in row["answers"]:
            places = paddle.to_tensor([[0, len(row["prompt"]) + len(answer) - 1, 0]])
            scores.append(model(paddle.to_tensor([[*row["prompt"], *answer]]), answer_places=places)[0])
        pairs = [-F.log_sigmoid(better - worse) for better, worse in itertools.combinations(scores, 2)]
        questions.append(paddle.stack(pairs).mean())
    return paddle.stack(questions).mean()


def check(step: Step, loss: float, gradients: list[np.ndarray]) -> None:
    assert step.loss == pytest.approx(loss, rel=2e-6)
    assert step.metrics["loss"] == pytest.approx(loss, rel=2e-6)
    scale = max(np.abs(gradient).max() for gradient in gradients)
    for ours, theirs in zip(step.gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6 * scale)


@pytest.mark.parametrize("key", KEYS)
def test_a_step_is_a_mean_over_its_terms(key, config_of, tmp_path):
    """Also where rows share prefixes, and packs are of trees."""

    def split(batch: int, accumulate: int, **changes) -> Path:
        name = f"{batch}-{accumulate}-{len(changes)}"
        changes |= {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulate}
        return config_of(key, name, **changes, per_device_eval_batch_size=accumulate)

    trees = {"share_prefixes": True}
    if key == "rm":  # scored rows share bos, so that they are one tree, and parts of it where it does not fit
        trees["max_seq_len"] = 250
    steps = [step_of(split(1, 4)), step_of(split(2, 2, **trees)), step_of(split(4, 1))]
    twos = [split(1, 2), split(2, 1, **trees)]
    launch(PROGRAM, twos, tmp_path)
    steps += [Step(**pickle.loads(path.with_suffix(".pickle").read_bytes())) for path in twos]
    loss, gradients = reference_step(key, twos[0], steps[0].parameters)
    for step in steps:
        for ours, theirs in zip(step.parameters, steps[0].parameters, strict=True):
            assert (ours == theirs).all()
        check(step, loss, gradients)
        for name in steps[0].evaluation:
            if not name.endswith(("runtime", "per_second", "step")):
                assert step.evaluation[name] == pytest.approx(steps[0].evaluation[name], rel=1e-4, abs=1e-6), name
        for name in ("accuracy", "margin", "rewards/margins", "rewards/accuracies", "kl", "logps/chosen"):
            if name in steps[0].metrics:
                assert step.metrics[name] == pytest.approx(steps[0].metrics[name], rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize("key", KEYS)
def test_the_averages_of_paddlenlp_can_be_had_back(key, config_of):
    """They depend on the split."""
    losses = []
    for batch, accumulate in ((1, 4), (4, 1)):
        changes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulate}
        losses.append(step_of(config_of(key, f"{batch}", loss_average="paddlenlp", **changes)).loss)
    assert abs(losses[0] - losses[1]) > 1e-4


@pytest.mark.parametrize("key", KEYS)
def test_an_unknown_average_is_refused(key, config_of):
    choice = "tokens" if key == "sft" else "pairs"
    with pytest.raises(ConfigError, match=f"loss_average = 'words' must be one of {choice}, paddlenlp"):
        TASKS[key].arguments(read_values(config_of(key, "words", loss_average="words")))


def test_certain_tokens_count_and_nan_stays():
    """PaddleNLP's criteria count only tokens whose loss is above 0."""
    logits = paddle.to_tensor([[[100.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 5.0, 0.0]]])
    labels = paddle.to_tensor([[0, 1, -100]])
    assert float(TokenMean()(logits, labels)) == pytest.approx(np.log(3) / 2, rel=1e-6)
    logits[0, 1, 2] = float("nan")
    assert np.isnan(float(TokenMean()(logits, labels)))
    assert float(TokenMean()(logits, paddle.full_like(labels, -100))) == 0.0
