"""Policy gradients on packs of rollouts take the steps of every rollout alone, computed from the formulas."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddlenlp.transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config
from rollouts import expected, log_probabilities, rollouts, score, tokens_of, write
from support.chat_templates import TEMPLATES, TOOL_TEMPLATES
from tiny import TINY

from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines
from paddle_flashmask.integrations.paddlenlp.data.rollouts import RolloutLines, RolloutTokens
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.inspection.inspect import inspect
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.tasks.policy import PackedPolicyTrainer, clipped_losses
from paddle_flashmask.integrations.paddlenlp.train import train
from paddle_flashmask.packing import packed

BOUNDS = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.3}
EDGES = (0.8, 1.3)
FIGURES = ("ratio", "clipped", "kl")
LORA = {"lora": True, "lora_rank": 4, "learning_rate": 1e-2}


def small_config(request, folder: Path) -> dict:
    """Rollouts with log-probabilities near those of random weights, in packs of one or two prompts."""
    tokenizer, rng = request.getfixturevalue("tokenizer"), np.random.default_rng(5)
    write(folder, rows := rollouts(14))
    lengths = [sum(label != -100 for label in row["labels"]) for row in tokens_of(folder, tokenizer)]
    score(folder, rows, [np.minimum(rng.normal(-np.log(len(tokenizer)), 0.3, length), 0) for length in lengths])
    config = request.getfixturevalue("sft_config")
    return {**config, "dataset_name_or_path": str(folder), "load_best_model_at_end": False}


@pytest.fixture(scope="module")
def models(tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Models with large random weights, whose probabilities differ widely, with rollouts in `plain` and `scored`.

    Log-probabilities of `scored` are those of the model with noise of its own for each rollout.
    """
    found = {}
    for name, config_class, family in (("llama", LlamaConfig, "Llama"), ("qwen2", Qwen2Config, "Qwen2")):
        found[name] = folder = tmp_path_factory.mktemp(name)
        tokenizer.save_pretrained(str(folder))
        shape = {**TINY, "vocab_size": len(tokenizer), "initializer_range": 0.3}
        config = config_class(architectures=[f"{family}ForCausalLM"], **shape)
        paddle.seed(3)
        model = AutoModelForCausalLM.from_config(config, dtype="float32")
        model.save_pretrained(str(folder))
        rows = rollouts(4)
        for kind in ("plain", "scored"):
            (folder / kind).mkdir()
            write(folder / kind, rows)
        rng = np.random.default_rng(5)
        with paddle.no_grad():
            numbers = [log_probabilities(model, row).numpy() for row in tokens_of(folder / "plain", tokenizer)]
        score(folder / "scored", rows, [np.minimum(n + rng.normal(0, 0.3, n.shape), 0) for n in numbers])
    return found


@pytest.fixture
def config_of(sft_config, models, tmp_path):
    """A function from changes to the file of a configuration whose every step has all rollouts."""

    def make(name: str = "llama", kind: str = "scored", **changes) -> Path:
        config = {
            **sft_config,
            "task": "policy",
            "model_name_or_path": str(models[name]),
            "continue_training": True,
            "dataset_name_or_path": str(models[name] / kind),
            "per_device_train_batch_size": 99,
            "gradient_accumulation_steps": 1,
            "src_length": 60,
            "max_length": 160,
            "max_steps": 2,
            "warmup_ratio": 0.0,
            "lazy": False,
            "load_best_model_at_end": False,
            "overwrite_output_dir": True,
            **BOUNDS,
            **changes,
        }
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        return path

    return make


def run(path: Path):
    return train(path, write=lambda line: None)


@pytest.mark.parametrize(
    ("name", "kind", "average", "changes"),
    [
        ("llama", "scored", "tokens", {}),
        ("llama", "plain", "rollouts", {}),
        ("qwen2", "scored", "rollouts", {}),
        ("qwen2", "plain", "tokens", {}),
        ("llama", "scored", "rollouts", {**LORA, "beta": 0.4}),
        ("qwen2", "scored", "rollouts", {"beta": 0.4}),
    ],
    ids=["llama", "llama, no log-probabilities", "qwen2", "qwen2, no log-probabilities", "LoRA", "reference"],
)
def test_steps_are_those_of_every_rollout_alone(
    name: str, kind: str, average: str, changes: dict, config_of, models, tokenizer, monkeypatch
) -> None:
    rows = tokens_of(models[name] / kind, tokenizer)
    wanted: list[tuple] = []
    references: list[np.ndarray] | None = None
    found: list[dict[str, np.ndarray]] = []
    step = paddle.optimizer.AdamW.step

    def compute(self, model, micro_batches) -> None:
        nonlocal references
        if "beta" in changes and references is None:  # before the first step the model is the reference
            references = [log_probabilities(model, row).numpy() for row in rows]
        trained = {parameter.name: parameter for parameter in model.parameters() if not parameter.stop_gradient}
        alone = expected(model, rows, average, EDGES, changes.get("beta", 0.0), references)
        gradients = paddle.grad([alone.loss], list(trained.values()))
        wanted.append((alone, dict(zip(trained, (gradient.numpy() for gradient in gradients), strict=True))))

    def record(self) -> None:
        found.append({p.name: p.grad.numpy() for p in self._parameter_list if p.grad is not None})
        step(self)

    monkeypatch.setattr(PackedPolicyTrainer, "begin_step", compute)
    monkeypatch.setattr(paddle.optimizer.AdamW, "step", record)
    path = config_of(name, kind, loss_average=average, max_steps=5, max_length=80, **changes)
    result = run(path)
    assert result.packing.sharing > 1.5 and result.packing.packs > 1
    assert len(wanted) == len(found) == 5
    for metrics, (alone, gradients), ours in zip(result.metrics, wanted, found, strict=True):
        np.testing.assert_allclose(metrics["loss"], float(alone.loss), rtol=1e-5, atol=1e-6)
        assert ours.keys() == gradients.keys()
        longest = max(np.abs(gradient).max() for gradient in gradients.values())
        for parameter, gradient in gradients.items():
            np.testing.assert_allclose(ours[parameter], gradient, rtol=0, atol=1e-5 * longest, err_msg=parameter)
        if kind == "scored":
            assert min(alone.clipped) > 5
            for key, figure in alone.figures.items():
                np.testing.assert_allclose(metrics[key], figure, rtol=1e-5, atol=1e-7, err_msg=key)
        else:
            assert not any(key in metrics for key in FIGURES)


@pytest.mark.parametrize("average", ["tokens", "rollouts"])
def test_a_step_does_not_depend_on_packs_and_micro_batches(average: str, config_of, monkeypatch) -> None:
    """The second loss depends on the first gradient. Documents share nothing, streams what is in their buffer."""
    whole = run(config_of(loss_average=average))
    rng = np.random.default_rng(2)

    def at_random(lengths, max_length, order):
        return [part.tolist() for part in np.array_split(rng.permutation(len(lengths)), 4)]

    same = [run(config_of(loss_average=average, share_prefixes=False, max_length=80))]
    same.append(run(config_of(loss_average=average, lazy=True)))
    monkeypatch.setattr(packed, "plan_packs", at_random)
    for batch, accumulated in ((1, 4), (2, 2), (4, 1)):
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
        same.append(run(config_of(loss_average=average, max_length=80, **sizes)))
    for result in same:
        for name in ("loss", *FIGURES):
            ours, theirs = ([entry[name] for entry in r.metrics] for r in (result, whole))
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("average", ["tokens", "rollouts"])
@pytest.mark.parametrize("kind", ["scored", "plain"])
def test_evaluation_figures(average: str, kind: str, config_of, models, tokenizer) -> None:
    model = AutoModelForCausalLM.from_pretrained(str(models["llama"]), dtype="float32")
    model.eval()
    alone = expected(model, tokens_of(models["llama"] / kind, tokenizer), average, EDGES)
    changes = {"do_train": False, "do_eval": True, "loss_average": average, "max_length": 80}
    (figures,) = run(config_of(kind=kind, **changes)).evaluations
    np.testing.assert_allclose(figures["eval_loss"], float(alone.loss), rtol=1e-5)
    for name in FIGURES:
        if kind == "scored":
            np.testing.assert_allclose(figures[f"eval_{name}"], alone.figures[name], rtol=1e-5)
        else:
            assert f"eval_{name}" not in figures


def test_losses_and_gradients_of_ratios() -> None:
    """Outside the bounds a loss is constant where it could fall further, and only there."""
    ratios = paddle.to_tensor([0.5, 0.9, 1.0, 1.2, 2.0] * 2, stop_gradient=False)
    advantages = paddle.to_tensor([2.0] * 5 + [-2.0] * 5)
    found, clipped = clipped_losses(ratios, advantages, EDGES)
    np.testing.assert_allclose(found.numpy(), [-1, -1.8, -2, -2.4, -2.6, 1.6, 1.8, 2, 2.4, 4], rtol=1e-6)
    assert clipped.numpy().tolist() == [False] * 4 + [True, True] + [False] * 4
    found.sum().backward()
    np.testing.assert_allclose(ratios.grad.numpy(), [-2, -2, -2, -2, 0, 0, 2, 2, 2, 2])


def test_only_the_answers_are_learned(templated, tmp_path: Path) -> None:
    """Two rounds of an answer, with the user's words between them; not the rounds of the prompt."""
    tokenizer = templated(TEMPLATES["chatml"].source)

    def messages(*texts: str) -> list[dict]:
        roles = {"q": "user", "a": "assistant"}
        return [{"role": roles[text[0]], "content": text} for text in texts]

    prompt = messages("q baling", "a chene", "q dimor")
    row = {"prompt": prompt, "answers": ["a folmor", messages("a hune", "q grarix", "a dirix")], "advantages": [1, 2]}
    write(tmp_path, [row])
    single, double = tokens_of(tmp_path, tokenizer)
    assert [row["values"]["advantages"] for row in (single, double)] == [1, 2]
    for found, learned, context in ((single, "folmor", "baling chene"), (double, "hune dirix", "baling chene grarix")):
        labels = np.asarray(found["labels"])
        text = tokenizer.decode(labels[labels != -100].tolist())
        assert all(word in text for word in learned.split()) and not any(word in text for word in context.split())


def test_an_answer_of_which_nothing_fits(templated, tmp_path: Path) -> None:
    """A turn with a tool's result is kept whole, so that its end is cut."""
    call = {"type": "function", "function": {"name": "add", "arguments": {}}}
    prompt = [
        {"role": "user", "content": "baling"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "chene " * 40},
    ]
    tokenizer = templated(TOOL_TEMPLATES["hermes"].source)
    write(tmp_path, [{"prompt": prompt, "answers": ["rix"], "advantages": [1]}])
    (row,) = tokens_of(tmp_path, tokenizer)
    labels = np.asarray(row["labels"])
    assert "rix" in tokenizer.decode(labels[labels != -100].tolist()) and "add" in tokenizer.decode(row["input_ids"])
    with pytest.raises(DataError, match="train.json:1: no token of an answer fits into max_length = 60"):
        list(RolloutTokens(RolloutLines(str(tmp_path), "train"), tokenizer, 30, 60))


def test_inspect_shows_trees(config_of) -> None:
    path = config_of(kind="plain")
    (batch,) = inspect(path, write=lambda line: None).batches
    names = [part.name for documents in batch.packs for document in documents for part in document]
    assert any(name.startswith("shared prefix") for name in names) and len(names) > 16


ANSWERED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
GOOD = {"prompt": "a", "answers": ["b", "c"], "advantages": [1, -1]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "answers": ["b"]}, "no 'advantages'"),
        ({"src": "a", "tgt": "b", "advantages": [1]}, "no 'prompt'"),
        ({**GOOD, "advantages": [1]}, r"'advantages' must be a list of 2 numbers, one per answer; got \[1\]"),
        ({**GOOD, "advantages": [1, float("nan")]}, r"'advantages\[1\]' must be a finite number in float32; got nan"),
        ({**GOOD, "advantages": [1, -1e39]}, r"'advantages\[1\]' must be a finite number in float32; got -1e"),
        ({**GOOD, "advantages": [1, "2"]}, r"'advantages\[1\]' must be a finite number in float32; got '2'"),
        ({**GOOD, "weights": [1, 1]}, "'weights' beside 'advantages'"),
        ({**GOOD, "log_probabilities": [[-1]]}, "'log_probabilities' must be a list of 2 lists"),
        ({**GOOD, "log_probabilities": [[-1, -1], -1]}, r"'log_probabilities\[1\]' must be a list of numbers; got -1"),
        ({**GOOD, "log_probabilities": [[-1], [None]]}, r"'log_probabilities\[1\]\[0\]' must be a finite number"),
        ({**GOOD, "log_probabilities": [[-1, 0.5], [-1]]}, r"'log_probabilities\[0\]' must be logarithms, .* got 0.5"),
        ({**GOOD, "log_probabilities": [[-1], [-1]]}, r"an answer has 1 log_probabilities, and \d tokens are learned"),
        ({**GOOD, "prompt": ANSWERED, "answers": ["c", []]}, "must alternate"),
        ({**GOOD, "prompt": ANSWERED, "answers": [[], []]}, r"answers\[0\] has no message"),
    ],
)
def test_bad_rows(row: dict, message: str, config_of, tmp_path: Path) -> None:
    write(tmp_path, [GOOD, row] if "log_probabilities" not in row else [row])
    with pytest.raises(DataError, match=rf"train.json:\d: .*{message}"):
        run(config_of(dataset_name_or_path=str(tmp_path)))


def test_log_probabilities_are_of_all_rows_and_whole_answers(config_of, models, tmp_path: Path) -> None:
    scored, plain = ((models["llama"] / kind / "train.json").read_text().splitlines() for kind in ("scored", "plain"))
    for lines, message in (
        ([scored[0], plain[1]], "2: no 'log_probabilities', which the rows before it have"),
        ([plain[0], scored[1]], "2: 'log_probabilities', which the rows before it do not have"),
    ):
        (tmp_path / "train.json").write_text("\n".join(lines))
        with pytest.raises(DataError, match=f"train.json:{message}"):
            run(config_of(dataset_name_or_path=str(tmp_path)))
    (tmp_path / "train.json").write_text(scored[0])
    with pytest.raises(DataError, match="train.json:1: an answer with log_probabilities does not fit"):
        run(config_of(dataset_name_or_path=str(tmp_path), src_length=3, max_length=30))


def test_other_tasks_refuse_advantages(tmp_path: Path) -> None:
    write(tmp_path, [GOOD])
    with pytest.raises(DataError, match="train.json:1: 'advantages' are for the key task = 'policy'"):
        list(SFTLines(str(tmp_path), "train"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"clip_ratio": 0.2}, ConfigError, "clip_ratio and clip_ratio_low, clip_ratio_high contradict each other"),
        ({"clip_ratio_low": None}, ConfigError, "clip_ratio_high needs the other bound too"),
        ({"clip_ratio_low": 1.5}, ConfigError, "clip_ratio_low = 1.5 must be above 0 and at most 1"),
        ({"clip_ratio_high": float("nan")}, ConfigError, "clip_ratio_high = nan must be a finite number"),
        ({"clip_ratio_high": 0}, ConfigError, "clip_ratio_high = 0 must be above 0"),
        ({"loss_average": "paddlenlp"}, ConfigError, "loss_average = 'paddlenlp' must be one of tokens, rollouts"),
        ({"beta": 0}, ConfigError, "beta = 0 must be above 0"),
        ({"beta": 0.1, "lora": True, "pissa": True}, ConfigError, "pissa = true changes the base"),
        ({"attention_mask_type": "document"}, ConfigError, "'attention_mask_type' is a key of sft alone"),
        ({"flash_mask": False, "zero_padding": False, "greedy_zero_padding": False}, ConfigError, "needs zero_padding"),
    ],
)
def test_bad_keys(changes: dict, error: type[Exception], message: str, config_of) -> None:
    with pytest.raises(error, match=message):
        run(config_of(**changes))


def test_default_bounds() -> None:
    options = TASKS["policy"].groups[-1]
    assert options().bounds() == (0.8, 1.2)
    assert options(clip_ratio=0.1).bounds() == (0.9, 1.1)
    assert options(clip_ratio_low=0.2, clip_ratio_high=0.3).bounds() == EDGES


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_experts": 4}, "mixture-of-experts"),
        ({"num_nextn_predict_layers": 1}, "multi-token prediction"),
        ({"use_fused_head_and_loss_fn": True}, "not supported in this release for policy"),
    ],
)
def test_models_that_do_not_fit(config: dict, message: str, config_of, models, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models["llama"], folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **config}))
    with pytest.raises(UnsupportedConfigError, match=message):
        run(config_of(model_name_or_path=str(folder)))
