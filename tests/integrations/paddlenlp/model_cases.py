"""Tiny PaddleNLP models, packed batches under every kind of mask, and training runs to compare."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
import paddlenlp.transformers as paddlenlp_models
from paddlenlp.transformers import moe_gate
from paddlenlp.transformers.mistral import modeling as mistral

import paddle_flashmask
from paddle_flashmask import masks
from paddle_flashmask.integrations.paddlenlp.models import expert_router
from paddle_flashmask.integrations.paddlenlp.models.replacements import Replacements
from paddle_flashmask.masks import ColumnMask

VOCABULARY = 64
LENGTH = 24
STEPS = 5

BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.08,  # at the usual 0.02 attention hardly matters in models this small
}
# Without auxiliary losses: they are statistics of the whole batch, padding included, and no sum over its documents.
DEEPSEEK = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "rope_scaling": {
        "type": "yarn",
        "factor": 4,
        "original_max_position_embeddings": 16,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
    },
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "aux_loss_alpha": 0.0,
}
MODELS = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "mistral": ("Mistral", {}),
    "gemma": ("Gemma", {"head_dim": 12}),
    "qwen2_moe": (
        "Qwen2Moe",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "router_aux_loss_coef": 0.0,
        },
    ),
    "deepseek_v2": ("DeepseekV2", {**DEEPSEEK, "topk_method": "greedy"}),
    "deepseek_v3": ("DeepseekV3", {**DEEPSEEK, "topk_method": "noaux_tc", "scoring_func": "sigmoid"}),
}


def build(name: str, flash: bool = False, **options) -> paddle.nn.Layer:
    family, extra = MODELS[name]
    config = getattr(paddlenlp_models, f"{family}Config")(**{**BASE, **extra, **options})
    config.use_flash_attention = flash
    config.use_cache = False
    for key, value in options.items():  # also those that a configuration takes no argument for
        setattr(config, key, value)
    paddle.seed(11)
    model = getattr(paddlenlp_models, f"{family}ForCausalLM")(config)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("mlp.gate.weight"):  # Qwen2-MoE starts with equal experts: which are taken is noise
            parameter.set_value(paddle.randn(parameter.shape) * 0.3)
    model.train()
    if options.get("recompute"):
        for layer in model.sublayers(include_self=True):
            if hasattr(layer, "enable_recompute"):
                layer.enable_recompute = True
    return model


@dataclass(frozen=True)
class Sample:
    """One sample of a pack: its tokens in the pack, which of them are scored, and what they see of each other."""

    places: list[int]
    scored: list[int]
    sees: np.ndarray


def _sample(places: list[int], sees: Callable[[int, int], bool], scored_from: int = 0) -> Sample:
    n = len(places)
    return Sample(places, places[scored_from:], np.asarray([[sees(q, k) for k in range(n)] for q in range(n)]))


def _documents(lengths: list[int], sees: Callable[[int, int, int], bool]) -> list[Sample]:
    """sees(query, key, document), query and key counted in the document."""
    starts = np.cumsum([0, *lengths])
    return [
        _sample(list(range(start, start + n)), lambda q, k, d=d: sees(q, k, d))
        for d, (start, n) in enumerate(zip(starts, lengths, strict=False))
    ]


ROWS = [[5, 9, 7], [12, 8, 4]]  # the first row has padding
PREFIXES = [[2, 0, 5], [3, 8, 1]]
GROUPS = [[[4, 3, 3], [5, 2, 4]], [[6, 5], [2, 4, 3, 4]]]


def _answers(groups: list[list[int]]) -> list[Sample]:
    samples, at = [], 0
    for question, *answers in groups:
        shared, at = list(range(at, at + question)), at + question
        for n in answers:
            samples.append(_sample([*shared, *range(at, at + n)], lambda q, k: k <= q, scored_from=question))
            at += n
    return samples


def _blockwise(lengths: list[int]) -> list[Sample]:
    """The last document sees all before it, so there is one sample, without padding."""
    lengths = [*lengths[:-1], LENGTH - sum(lengths[:-1])]
    of = np.repeat(range(len(lengths)), lengths)
    return [_sample(list(range(LENGTH)), lambda q, k: k <= q and (of[q] == of[k] or bool(of[q] == len(lengths) - 1)))]


KINDS: dict[str, tuple[ColumnMask, list[list[Sample]]]] = {
    "causal documents, n=1": (
        masks.causal_document(ROWS, LENGTH),
        [_documents(row, lambda q, k, d: k <= q) for row in ROWS],
    ),
    "window in documents, n=1": (
        masks.causal_document(ROWS, LENGTH) & masks.sliding_window(LENGTH, 3).expand(2),
        [_documents(row, lambda q, k, d: q - 3 < k <= q) for row in ROWS],
    ),
    "share question, n=1": (masks.share_question(GROUPS, LENGTH), [_answers(groups) for groups in GROUPS]),
    "blockwise, n=2 causal": (masks.causal_blockwise(ROWS, LENGTH), [_blockwise(row) for row in ROWS]),
    "documents, n=2": (masks.document(ROWS, LENGTH), [_documents(row, lambda q, k, d: True) for row in ROWS]),
    "prefix-LM documents, n=2": (
        masks.prefix_lm_document(ROWS, PREFIXES, LENGTH),
        [
            _documents(row, lambda q, k, d, prefix=prefix: k <= q or k < prefix[d])
            for row, prefix in zip(ROWS, PREFIXES, strict=True)
        ],
    ),
    "global and window, n=4": (
        masks.global_sliding_window(LENGTH, 2, (3, 2), length=[17, LENGTH]),
        [_documents([n], lambda q, k, d: q < 2 or k < 2 or q - 3 <= k <= q + 2) for n in (17, LENGTH)],
    ),
}


@dataclass(frozen=True)
class Batch:
    mask: ColumnMask
    rows: list[list[Sample]]
    input_ids: np.ndarray
    labels: np.ndarray
    position_ids: np.ndarray
    dense: np.ndarray

    @property
    def scored(self) -> int:
        return int((self.labels >= 0).sum())


def batch_of(kind: str, seed: int = 3) -> Batch:
    mask, rows = KINDS[kind]
    rng = np.random.default_rng(seed)
    shape = (len(rows), LENGTH)
    ids, targets = rng.integers(0, VOCABULARY, shape), rng.integers(0, VOCABULARY, shape)
    labels, positions = np.full(shape, -100), np.zeros(shape, dtype=np.int64)
    dense = np.zeros((len(rows), 1, LENGTH, LENGTH), dtype=bool)
    for b, samples in enumerate(rows):
        for sample in samples:
            labels[b, sample.scored] = targets[b, sample.scored]
            positions[b, sample.places] = np.arange(len(sample.places))
            dense[b, 0][np.ix_(sample.places, sample.places)] |= sample.sees
    assert np.array_equal(mask.to_dense(), dense)
    return Batch(mask, rows, ids, labels, positions, dense)


def summed_loss(model, ids: np.ndarray, labels: np.ndarray, positions: np.ndarray, **mask) -> paddle.Tensor:
    out = model(input_ids=paddle.to_tensor(ids), position_ids=paddle.to_tensor(positions), **mask)
    logits = out[0] if isinstance(out, (tuple, list)) else out
    flat = logits.reshape([-1, VOCABULARY]).astype("float32")
    return F.cross_entropy(flat, paddle.to_tensor(labels).reshape([-1]), ignore_index=-100, reduction="sum")


def packed_loss(model, batch: Batch) -> paddle.Tensor:
    columns = batch.mask.to_paddle()
    total = summed_loss(
        model, batch.input_ids, batch.labels, batch.position_ids, attn_mask_startend_row_indices=columns
    )
    return total / batch.scored


def dense_loss(model, batch: Batch) -> paddle.Tensor:
    visible = paddle.to_tensor(batch.dense)
    return summed_loss(model, batch.input_ids, batch.labels, batch.position_ids, attention_mask=visible) / batch.scored


def loss_of_samples_alone(model, batch: Batch) -> paddle.Tensor:
    """Every sample run by itself, without padding."""
    losses = []
    for b, samples in enumerate(batch.rows):
        for sample in samples:
            at = sample.places
            labels = np.where(np.isin(at, sample.scored), batch.labels[b, at], -100)
            visible = paddle.to_tensor(sample.sees[None, None])
            losses.append(
                summed_loss(
                    model, batch.input_ids[b : b + 1, at], labels, np.arange(len(at))[None], attention_mask=visible
                )
            )
    return sum(losses) / batch.scored


Run = tuple[list[float], list[dict[str, np.ndarray]]]


def train(model, batch: Batch, loss_of: Callable) -> Run:
    """Losses and gradients of STEPS steps. Adam would amplify the rounding noise of vanishing gradients."""
    optimizer = paddle.optimizer.Momentum(learning_rate=0.005, momentum=0.9, parameters=model.parameters())
    losses, gradients = [], []
    for _ in range(STEPS):
        loss = loss_of(model, batch)
        loss.backward()
        losses.append(float(loss))
        gradients.append(gradients_of(model))
        optimizer.step()
        optimizer.clear_grad()
    return losses, gradients


@functools.cache
def expected_run(name: str, kind: str, loss_of: Callable) -> Run:
    """PaddleNLP as installed, its eager attention and dense masks."""
    with repaired_router(), mask_not_made_causal(), dispatch_without_gradient():
        return train(build(name), batch_of(kind), loss_of)


@contextlib.contextmanager
def repaired_router():
    """PaddleNLP's expert router, corrected for recent Paddle as enable() corrects it."""
    replacements = Replacements()
    expert_router.patch(moe_gate, replacements)
    try:
        yield
    finally:
        replacements.take_back()


@contextlib.contextmanager
def dispatch_without_gradient():
    """PaddleNLP's expert router casts its weights to bool and back, and Paddle's gradient of that is the bool of the
    gradient: a token that counts at all, were it 1e-30, adds one to the gradient of its experts' gates. So do padding
    and a question that is run again for every answer. No mask can make runs equal that differ in these."""
    gate = moe_gate.PretrainedMoEGate
    original = gate.topkgating

    def topkgating(self, gates):
        capacity, combine_weights, dispatch_mask, *rest = original(self, gates)
        return capacity, combine_weights, dispatch_mask.detach(), *rest

    gate.topkgating = topkgating
    try:
        yield
    finally:
        gate.topkgating = original


@contextlib.contextmanager
def mask_not_made_causal():
    """Mistral without the causal mask that it adds to any dense mask, so that others can be compared."""
    original = mistral._make_causal_mask
    mistral._make_causal_mask = lambda *args, **kwargs: paddle.zeros_like(original(*args, **kwargs))
    try:
        yield
    finally:
        mistral._make_causal_mask = original


def packed_run(name: str, kind: str, **options) -> Run:
    """The same training on columns."""
    batch = batch_of(kind)
    with paddle_flashmask.enabled(), dispatch_without_gradient():
        return train(build(name, flash_mask_causal=batch.mask.causal, **options), batch, packed_loss)


def gradients_of(model) -> dict[str, np.ndarray]:
    return {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], where: str = "") -> None:
    """Equal to 1e-5 of the largest entry of the parameter's gradient."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=1e-5 * scale, err_msg=f"{name}{where}")


def assert_same_run(found: Run, expected: Run) -> None:
    """Losses of every step equal to a relative 1e-5, gradients as above."""
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for step, (ours, theirs) in enumerate(zip(found[1], expected[1], strict=True)):
        assert_same_gradients(ours, theirs, f", step {step}")
