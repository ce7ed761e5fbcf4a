"""Reward models on packed ranked answers equal the dense mask and the unpacked run; losses, metrics, saving."""

from __future__ import annotations

import functools
import itertools
import json
import math
import random
from pathlib import Path

import numpy as np
import paddle
import pytest
from sentences import sentence, write_rows
from unpacked import run_apart

from paddle_flashmask.integrations.paddlenlp.reward_model import load_reward_model
from paddle_flashmask.integrations.paddlenlp.tasks.rm import listwise_loss, pairwise_loss
from paddle_flashmask.integrations.paddlenlp.train import train
from paddle_flashmask.packing import RewardCollator

DENSE = {"flash_mask": False, "use_flash_attention": False}


def small_config(request, folder: Path) -> dict:
    """The keys of PaddleNLP's published llm/config/llama/flashmask/rm.json, which are those of its dpo.json, with 30
    questions of 2-4 ranked answers; the better ones hold more words of one kind."""
    rng = random.Random(3)
    rows = []
    for _ in range(30):
        count = rng.randint(2, 4)
        ranked = [" ".join([sentence(rng, 1, 3), *["dimor"] * rank]) for rank in range(count)]
        order = rng.sample(range(count), count)
        rows.append({"src": sentence(rng, 2, 6), "tgt": "", "response": [ranked[i] for i in order], "sort": order})
    path = folder / "train.jsonl"
    write_rows(path, rows)
    return {
        **request.getfixturevalue("dpo_config"),
        "train_dataset_path": str(path),
        "dev_dataset_path": str(path),
    }


@pytest.fixture
def run(task_config, train_anew):
    return functools.partial(train_anew, "rm", task_config("rm"))


def compare(result, other) -> None:
    assert len(result.losses) == len(other.losses) == 5
    for key, tolerance in (("loss", 1e-5), ("margin", 1e-4), ("accuracy", 0)):
        ours, theirs = ([entry[key] for entry in one.metrics] for one in (result, other))
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama", {}),
        ("llama", {"loss_type": "listwise", "lazy": False, "greedy_zero_padding": False}),
        ("qwen2", {"per_device_train_batch_size": 2}),
        ("llama", {"lora": True, "lora_rank": 4, "learning_rate": 1e-2, "lazy": False}),
    ],
)
def test_packed_answers_equal_the_dense_mask_and_each_answer_alone(run, model_folders, monkeypatch, name, options):
    options = {**options, "model_name_or_path": str(model_folders[name])}
    packed, dense = run(**options), run(**options, **DENSE)
    assert packed.packing.documents_per_pack > 1.5
    compare(packed, dense)
    lengths = []
    with monkeypatch.context() as patch:
        run_apart(patch, lengths)
        alone = run(**options, **DENSE)
    assert lengths and max(lengths) < 128
    compare(packed, alone)


def test_the_mask_matters(run, monkeypatch):
    packed = run()
    collate = RewardCollator.__call__

    def without_mask(self, packs):
        batch = collate(self, packs)
        batch["startend_row_indices"][:] = batch["input_ids"].shape[1]
        return batch

    monkeypatch.setattr(RewardCollator, "__call__", without_mask)
    wrong = run()
    assert np.abs(np.subtract([v for _, v in packed.losses], [v for _, v in wrong.losses])).max() > 1e-4


def brute_force(kind: str, groups: list[list[float]]) -> float:
    total = 0.0
    for scores in groups:
        if kind == "pairwise":
            pairs = list(itertools.combinations(scores, 2))
            total += sum(math.log1p(math.exp(worse - better)) for better, worse in pairs) / len(pairs)
        else:
            total += sum(math.log(sum(math.exp(s) for s in scores[i:])) - scores[i] for i in range(len(scores)))
    return total / len(groups)


@pytest.mark.parametrize(("kind", "loss"), [("pairwise", pairwise_loss), ("listwise", listwise_loss)])
def test_losses_equal_their_definition(kind, loss):
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=n).astype("float32").tolist() for n in (2, 4, 3)]
    scores = paddle.to_tensor(sum(groups, []), stop_gradient=False)
    value = loss(scores, paddle.to_tensor([0, 0, 1, 1, 1, 1, 2, 2, 2]))
    assert float(value) == pytest.approx(brute_force(kind, groups), rel=1e-6)
    value.backward()
    assert np.isfinite(scores.grad.numpy()).all() and np.abs(scores.grad.numpy()).min() > 0


def test_the_losses_agree_for_pairs():
    scores, questions = paddle.to_tensor([0.3, -0.7, 1.5, 2.0]), paddle.to_tensor([0, 0, 1, 1])
    assert float(pairwise_loss(scores, questions)) == pytest.approx(float(listwise_loss(scores, questions)), rel=1e-6)


def test_it_learns_and_a_saved_model_scores_the_same(run, tmp_path):
    options = {"do_eval": True, "load_best_model_at_end": False, "learning_rate": 1e-2, "lazy": False, "max_steps": 25}
    first = run(**options, output_dir=str(tmp_path / "first"))
    assert first.evaluations[-1]["eval_accuracy"] > 0.8 and first.evaluations[-1]["eval_margin"] > 0
    assert first.metrics[0]["accuracy"] < 0.8
    again = run(
        do_train=False,
        do_eval=True,
        load_best_model_at_end=False,
        model_name_or_path=first.output_dir,
        continue_training=True,
    )
    for key in ("eval_loss", "eval_accuracy", "eval_margin"):
        assert again.evaluations[-1][key] == pytest.approx(first.evaluations[-1][key], rel=1e-6)
    model = load_reward_model(first.output_dir)
    scores = model(paddle.to_tensor([[1, 5, 6, 7]]), answer_places=paddle.to_tensor([[0, 3], [0, 2]]))
    assert scores.shape == [2] and scores.dtype == paddle.float32


def test_a_reward_model_starts_from_a_language_model(run, dpo_config, tmp_path):
    path = tmp_path / "dpo.json"
    pairs = {"src": "baling", "tgt": "", "response": ["rix", "mor"], "sort": [1, 0]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pairs) + "\n")
    changes = {"train_dataset_path": str(tmp_path / "pairs.jsonl"), "output_dir": str(tmp_path / "lm"), "max_steps": 1}
    changes["gradient_accumulation_steps"] = 1
    path.write_text(json.dumps({**dpo_config, **changes}))
    language_model = train(path, write=lambda line: None)
    result = run(
        model_name_or_path=language_model.output_dir,
        continue_training=True,
        output_dir=str(tmp_path / "rm"),
        max_steps=1,
        learning_rate=1e-30,
    )
    from paddlenlp.transformers import AutoModelForCausalLM

    before = AutoModelForCausalLM.from_pretrained(language_model.output_dir).llama.state_dict()
    after = load_reward_model(result.output_dir).llama.state_dict()
    assert before.keys() == after.keys()
    assert all((before[key] == after[key]).all() for key in before)


@pytest.mark.parametrize(("lazy", "lora"), [(True, False), (False, False), (False, True)])
def test_resuming_after_an_epoch_of_an_odd_number_of_batches(run, tmp_path, lazy, lora):
    options = {"lazy": lazy, "lora": lora, "load_best_model_at_end": False, "max_steps": 4}
    whole = run(**options, save_strategy="steps", save_steps=2, output_dir=str(tmp_path / "first"))
    resumed = run(**options, resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-2"))
    np.testing.assert_allclose([v for _, v in resumed.losses], [v for _, v in whole.losses[2:]], rtol=1e-6)
    assert lazy or whole.packing.packs % 2


def test_benchmark_saves_nothing(run):
    assert len(run(benchmark=True, max_steps=2).losses) == 2
