"""Packed documents through PaddleFormers' models give what each document alone and the dense mask give."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from tiny_models import FULL_ATTENTION, MODELS, SIZE, assert_same, build, documents, packed_batch, run

from paddle_flashmask import functional, masks

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def calls(monkeypatch):
    """The keyword arguments of every call of the operator."""
    seen = []
    operator = functional.flashmask_attention

    def counted(query, key, value, **options):
        seen.append(options)
        return operator(query, key, value, **options)

    monkeypatch.setattr(functional, "flashmask_attention", counted)
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_a_pack_equals_its_documents_alone(name, calls):
    batch = packed_batch()
    found = run(build(name, "paddle_flashmask"), [batch])
    assert len(calls) == 2  # one per layer
    assert_same(found, run(build(name, "eager"), documents(batch)))


@pytest.mark.parametrize("name", FULL_ATTENTION)
def test_a_pack_equals_the_dense_mask(name):
    found = run(build(name, "paddle_flashmask"), [packed_batch()])
    assert_same(found, run(build(name, "eager"), [packed_batch("dense")]))


@pytest.mark.parametrize("name", MODELS)
def test_documents_alone_need_no_indices(name):
    """Without a mask the layers are causal, and sliding ones keep their window."""
    alone = documents(packed_batch())
    assert_same(run(build(name, "paddle_flashmask"), alone), run(build(name, "eager"), alone))


@pytest.mark.parametrize("name", FULL_ATTENTION)
def test_a_dense_mask_is_kept(name, calls):
    dense = packed_batch("dense")
    assert_same(run(build(name, "paddle_flashmask"), [dense]), run(build(name, "eager"), [dense]))
    assert calls == []


def test_the_stock_sdpa_loses_the_same_mask():
    """The two tests above can fail: another implementation of PaddleFormers lets the documents see each other."""
    batch = packed_batch()
    kept = run(build("llama", "paddle_flashmask"), [batch])
    lost = run(build("llama", "sdpa"), [batch])
    assert np.abs(lost[0] - kept[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["llama", "qwen3", "qwen3_vl_text", "gpt_oss"])
def test_recompute(name, calls):
    batch = packed_batch()
    options = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    model = build(name, "paddle_flashmask", **options)
    model.train()
    found = run(model, [batch])
    assert len(calls) == 4  # every layer forward twice
    assert_same(found, run(build(name, "eager"), documents(batch)))


MASKS = {
    "two bounds, causal": masks.causal_blockwise([4, 6, 6]),
    "two bounds": masks.document([4, 6, 6]),
    "four bounds": masks.global_sliding_window(16, global_tokens=2, window=3),
}


@pytest.mark.parametrize("name", FULL_ATTENTION)
@pytest.mark.parametrize("kind", MASKS)
def test_richer_masks(kind, name):
    mask = MASKS[kind]
    ids = paddle.to_tensor(np.random.default_rng(0).integers(3, 90, [1, 16]))
    positions = paddle.arange(16).unsqueeze(0)
    common = {"input_ids": ids, "labels": ids, "position_ids": positions}
    model = build(name, "paddle_flashmask", flash_mask_causal=mask.causal)
    found = run(model, [{**common, "attn_mask_startend_row_indices": mask.to_paddle()}])
    visible = paddle.to_tensor(mask.to_dense())
    assert_same(found, run(build(name, "eager"), [{**common, "attention_mask": visible}]))


@pytest.mark.parametrize("heads", [2, 4])
def test_a_mask_for_every_head(heads):
    batch = packed_batch()
    one = batch["attn_mask_startend_row_indices"]
    batch["attn_mask_startend_row_indices"] = one.expand([1, heads, SIZE, 1])
    assert_same(run(build("llama", "paddle_flashmask"), [batch]), run(build("llama", "eager"), documents(batch)))


@pytest.mark.parametrize("name", ["llama", "ernie4_5", "qwen2"])
def test_decoding_with_a_cache(name):
    """One token at a time gives the logits of the whole sequence."""
    whole = documents(packed_batch())[1]["input_ids"]
    model = build(name, "paddle_flashmask")
    model.eval()
    found, cache = [], None
    with paddle.no_grad():
        expected = model(input_ids=whole, return_dict=True).logits.numpy()
        for token in range(whole.shape[1]):
            out = model(
                input_ids=whole[:, token : token + 1],
                position_ids=paddle.to_tensor([[token]]),
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
            )
            cache = out.past_key_values
            found.append(out.logits.numpy()[:, 0])
    np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=1e-4, atol=1e-5)
