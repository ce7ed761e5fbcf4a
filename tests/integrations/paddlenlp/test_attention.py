"""PaddleNLP's models give the same on packed documents as with the dense mask and eager attention."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddlenlp.transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from paddlenlp.transformers.llama import fusion_ops
from support.dtypes import round_to

import paddle_flashmask
from paddle_flashmask import functional, masks
from paddle_flashmask.integrations.paddlenlp.models import attention
from paddle_flashmask.packing import SFTCollator, pack_sft

MODELS = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
LENGTHS = [5, 9, 7]
SIZE = 24  # three rows of padding


def build(name: str, flash: bool, **options):
    config_class, model_class = MODELS[name]
    config = config_class(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    config.use_flash_attention = flash
    for key, value in options.items():
        setattr(config, key, value)
    paddle.seed(11)
    return model_class(config)


def packed_batch(mask: str) -> dict[str, paddle.Tensor]:
    rng = np.random.default_rng(3)
    rows = [{"input_ids": ids, "labels": ids} for ids in (rng.integers(3, 90, n) for n in LENGTHS)]
    batch = SFTCollator(0, length=SIZE, mask=mask)(pack_sft(rows, SIZE, order="sequential")[:])
    return {key: paddle.to_tensor(value) for key, value in batch.items()}


def logits_and_gradients(model, batch: dict[str, paddle.Tensor], tokens: int = sum(LENGTHS)):
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "startend_row_indices")}
    logits = model(**inputs)
    logits = (logits[0] if isinstance(logits, (tuple, list)) else logits)[:, :tokens]
    (logits**2).sum().backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    model.clear_gradients()
    return logits.numpy(), gradients


def dense(name: str):
    """The specification: PaddleNLP as installed, eager attention, dense mask."""
    return logits_and_gradients(build(name, flash=False), packed_batch("dense"))


def assert_same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    assert found[1].keys() == expected[1].keys()
    for key, gradient in expected[1].items():
        np.testing.assert_allclose(found[1][key], gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max(), err_msg=key)


@pytest.fixture
def calls(monkeypatch):
    """The keyword arguments of every call of the operator."""
    seen = []
    operator = functional.flashmask_attention

    def counted(query, key, value, startend_row_indices=None, **options):
        seen.append({"shape": list(startend_row_indices.shape), **options})
        return operator(query, key, value, startend_row_indices, **options)

    monkeypatch.setattr(functional, "flashmask_attention", counted)
    return seen


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [[1, SIZE], [1, 1, SIZE], [1, 1, SIZE, 1], [1, 4, SIZE], [1, 2, SIZE, 1]])
def test_column_indices_equal_the_dense_mask(name, flash, shape, calls):
    batch = packed_batch("columns")
    columns = batch["startend_row_indices"].reshape([1, 1, SIZE])
    heads = shape[1] if len(shape) > 2 else 1
    batch["attn_mask_startend_row_indices"] = columns.expand([1, heads, SIZE]).reshape(shape)
    with paddle_flashmask.enabled():
        found = logits_and_gradients(build(name, flash), batch)
    assert [call["shape"] for call in calls] == [[1, heads, SIZE, 1]] * 2
    assert_same(found, dense(name))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_built_before_enable_is_routed_and_given_back(name):
    batch = packed_batch("columns")
    batch["attn_mask_startend_row_indices"] = batch["startend_row_indices"][..., 0]
    model = build(name, flash=False)
    with paddle_flashmask.enabled():
        routed = logits_and_gradients(model, batch)
    assert_same(routed, dense(name))
    # PaddleNLP by itself drops the indices here: documents see each other. This is what the routing is for.
    assert np.abs(logits_and_gradients(model, batch)[0] - routed[0]).max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_a_dense_mask_survives_use_flash_attention(name):
    with paddle_flashmask.enabled():
        found = logits_and_gradients(build(name, flash=True), packed_batch("dense"))
    assert_same(found, dense(name))
    assert np.abs(logits_and_gradients(build(name, flash=True), packed_batch("dense"))[0] - found[0]).max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_a_pack_are_the_sum_over_its_documents(name):
    batch = packed_batch("columns")
    batch["attn_mask_startend_row_indices"] = batch["startend_row_indices"][..., 0]
    with paddle_flashmask.enabled():
        logits, gradients = logits_and_gradients(build(name, flash=True), batch)
    alone_logits, alone = [], []
    for end, n in zip(np.cumsum(LENGTHS), LENGTHS, strict=True):
        single = {"input_ids": batch["input_ids"][:, end - n : end]}
        found = logits_and_gradients(build(name, flash=False), single)
        alone_logits.append(found[0])
        alone.append(found[1])
    summed = {key: sum(g[key] for g in alone) for key in gradients}
    assert_same((logits, gradients), (np.concatenate(alone_logits, axis=1), summed))


@pytest.mark.parametrize("granularity", ["full", "full_attn", "core_attn"])
@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_recompute(name, flash, granularity, calls):
    batch = packed_batch("columns")
    batch["attn_mask_startend_row_indices"] = batch["startend_row_indices"][..., 0]
    options = {"recompute": True, "recompute_granularity": granularity, "recompute_use_reentrant": False}
    with paddle_flashmask.enabled():
        model = build(name, flash, **options)
        model.train()
        for layer in model.sublayers(include_self=True):
            if hasattr(layer, "enable_recompute"):
                layer.enable_recompute = True
        found = logits_and_gradients(model, batch)
    assert len(calls) == 4  # twice per layer
    assert_same(found, dense(name))


MASKS = {
    "two bounds, causal": masks.causal_blockwise([4, 6, 6]),
    "two bounds": masks.document([4, 6, 6]),
    "four bounds": masks.global_sliding_window(16, global_tokens=2, window=3),
}


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("kind", MASKS)
def test_richer_masks(kind, flash):
    mask = MASKS[kind]
    rng = np.random.default_rng(0)
    ids = paddle.to_tensor(rng.integers(3, 90, [1, 16]))
    with paddle_flashmask.enabled():
        model = build("llama", flash, flash_mask_causal=mask.causal)
        found = logits_and_gradients(
            model, {"input_ids": ids, "attn_mask_startend_row_indices": mask.to_paddle()}, tokens=16
        )
    visible = paddle.to_tensor(mask.to_dense())
    expected = logits_and_gradients(build("llama", False), {"input_ids": ids, "attention_mask": visible}, tokens=16)
    assert_same(found, expected)


def fusion_arguments(**config) -> dict:
    state = paddle.rand([2, 6, 4, 8])
    defaults = {"context_parallel_degree": 1, "use_flash_attention": True, **config}
    return {
        "query_states": state,
        "config": type("Config", (), defaults),
        "key_states": state,
        "value_states": state,
        "attention_mask": None,
        "output_attentions": False,
        "attn_mask_startend_row_indices": paddle.full([2, 6], 6, dtype="int32"),
    }


def test_sequence_parallel_and_sep_shapes():
    given = fusion_arguments(sep_parallel_degree=2)
    with paddle_flashmask.enabled():
        plain = fusion_ops.fusion_flash_attention(**given)
        flat = fusion_ops.fusion_flash_attention(**given, sequence_parallel=True)
        weights = fusion_ops.fusion_flash_attention(**{**given, "output_attentions": True})

        def reshard(out, split_axis, concat_axis):
            """Two ranks of equal content: half the rows, twice the heads."""
            half = out.split(2, axis=split_axis)[0]
            return paddle.concat([half, half], axis=concat_axis)

        spread = fusion_ops.fusion_flash_attention(**given, reshard_layer=reshard)
        with pytest.raises(ValueError, match="sequence length 6 is not a multiple of sep_parallel_degree = 4"):
            fusion_ops.fusion_flash_attention(
                **{**given, **{"config": fusion_arguments(sep_parallel_degree=4)["config"]}}, reshard_layer=reshard
            )
    assert plain.shape == [2, 6, 32] and flat.shape == [12, 32] and spread.shape == [2, 3, 64]
    np.testing.assert_array_equal(flat.numpy(), plain.numpy().reshape(12, 32))
    np.testing.assert_array_equal(weights[0].numpy(), plain.numpy())
    assert weights[1] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alibi": paddle.zeros([4])}, "alibi and attn_mask_startend_row_indices cannot be used together"),
        ({"config": fusion_arguments(alibi=True)["config"]}, "alibi and attn_mask_startend_row_indices cannot"),
        ({"config": fusion_arguments(context_parallel_degree=2)["config"]}, "context_parallel_degree = 2"),
    ],
)
def test_what_would_lose_the_mask_is_refused(change, message):
    with paddle_flashmask.enabled(), pytest.raises(NotImplementedError, match=message):
        fusion_ops.fusion_flash_attention(**{**fusion_arguments(), **change})


def test_alibi_models_are_refused_on_both_paths():
    batch = packed_batch("columns")
    inputs = {"input_ids": batch["input_ids"], "attn_mask_startend_row_indices": batch["startend_row_indices"]}
    for flash in (True, False):
        with paddle_flashmask.enabled(), pytest.raises(NotImplementedError, match="alibi"):
            build("llama", flash, alibi=True)(**inputs)


def test_attention_weights_are_refused_on_the_eager_path():
    batch = packed_batch("columns")
    inputs = {"input_ids": batch["input_ids"], "attn_mask_startend_row_indices": batch["startend_row_indices"]}
    with paddle_flashmask.enabled(), pytest.raises(NotImplementedError, match="computes no attention weights"):
        build("llama", False)(**inputs, output_attentions=True)


def test_a_device_that_ignores_indices_is_refused():
    config = fusion_arguments()["config"]
    with pytest.raises(NotImplementedError, match="on device 'npu': PaddleNLP ignores them there; supported: cpu, gpu"):
        attention.refuse_what_would_lose_the_mask(config, None, "npu")


@pytest.mark.parametrize("shape", [[2], [2, 1, 6, 3], [2, 1, 6, 1, 1]])
def test_a_wrong_shape_is_named(shape):
    given = {**fusion_arguments(), "attn_mask_startend_row_indices": paddle.zeros(shape, dtype="int32")}
    with paddle_flashmask.enabled(), pytest.raises(ValueError, match=r"with n in 1, 2, 4; got shape"):
        fusion_ops.fusion_flash_attention(**given)


def rounded_attention(query, key, value, visible, dtype: str) -> np.ndarray:
    """A plain implementation in `dtype`: every product and the probabilities are stored rounded."""
    group = query.shape[2] // key.shape[2]
    query = query.transpose(0, 2, 1, 3)
    key, value = (np.repeat(x.transpose(0, 2, 1, 3), group, axis=1) for x in (key, value))
    stored = (lambda x: x) if dtype == "float64" else (lambda x: round_to(x, dtype))
    scores = np.where(visible, stored(query @ key.swapaxes(-1, -2)) / np.sqrt(query.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out = stored(stored(weights / weights.sum(axis=-1, keepdims=True)) @ value)
    return out.transpose(0, 2, 1, 3).reshape(*out.shape[:1], out.shape[2], -1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("flash", [True, False])
def test_16_bit_states_are_within_their_rounding(flash, dtype):
    """Only the attention: Paddle has no 16-bit matrix product on the CPU for the rest of a model."""
    mask = masks.prefix_lm_document([[20, 33, 11], [64]], [[5, 12, 0], [30]])
    rng = np.random.default_rng(1)
    states = [round_to(rng.standard_normal([2, 64, heads, 32]), dtype) for heads in (4, 2, 2)]
    given = dict(zip(("query_states", "key_states", "value_states"), map(paddle.to_tensor, states), strict=True))
    given = {name: state.astype(dtype) for name, state in given.items()}
    for state in given.values():
        state.stop_gradient = False
    config = fusion_arguments(flash_mask_causal=False, use_flash_attention=flash)["config"]
    with paddle_flashmask.enabled():
        attend = build("llama", flash).llama.layers[0].self_attn.attn_func
        out = attend(
            **given,
            config=config,
            attention_mask=None,
            output_attentions=False,
            attn_mask_startend_row_indices=mask.to_paddle(),
        )
        out.sum().backward()
    assert all(state.grad.dtype == state.dtype for state in given.values())
    exact = rounded_attention(*(x.astype(np.float64) for x in states), mask.to_dense(), "float64")
    plain = rounded_attention(*states, mask.to_dense(), dtype)
    ours = out.astype("float32").numpy()
    assert np.abs(ours - exact).max() <= 2 * np.abs(plain - exact).max()
