"""Putting the operator under PaddleNLP, and restoring PaddleNLP exactly."""

from __future__ import annotations

import subprocess
import sys

import pytest
from paddlenlp.transformers import LlamaForCausalLM
from paddlenlp.transformers.llama import fusion_ops
from paddlenlp.transformers.llama.modeling import LlamaAttention
from paddlenlp.transformers.qwen2.modeling import Qwen2Attention

import paddle_flashmask
from paddle_flashmask.integrations import model_library_patches


@pytest.fixture(autouse=True)
def leave_nothing_patched():
    yield
    paddle_flashmask.disable()


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_enable_does_not_import_paddlenlp_and_still_reaches_it():
    out = run_python(
        """
import sys, paddle_flashmask
paddle_flashmask.enable()
assert "paddlenlp" not in sys.modules
from paddlenlp.transformers.llama import fusion_ops, modeling
routed = fusion_ops.fusion_flash_attention
assert "attn_func" in vars(modeling.LlamaAttention)
assert type(fusion_ops.__loader__).__name__ == "SourceFileLoader"
assert fusion_ops.__spec__.loader is fusion_ops.__loader__
paddle_flashmask.disable()
assert fusion_ops.fusion_flash_attention is not routed
assert fusion_ops.fusion_flash_attention is routed.__wrapped__
assert "attn_func" not in vars(modeling.LlamaAttention)
assert not [f for f in sys.meta_path if type(f).__name__ == "AfterImport"]
print("fine")
"""
    )
    assert out.strip().endswith("fine")


def test_disable_restores_the_very_objects():
    before = fusion_ops.fusion_flash_attention
    model_functions = {name: dict(vars(cls)) for name, cls in (("l", LlamaAttention), ("q", Qwen2Attention))}
    paddle_flashmask.enable()
    assert fusion_ops.fusion_flash_attention is not before
    paddle_flashmask.enable()  # a second time changes nothing
    paddle_flashmask.disable()
    assert fusion_ops.fusion_flash_attention is before
    assert model_functions == {"l": dict(vars(LlamaAttention)), "q": dict(vars(Qwen2Attention))}


def test_a_model_keeps_its_own_function(model_folders):
    from paddlenlp.transformers import LlamaConfig
    from paddlenlp.transformers.llama.modeling import scaled_dot_product_attention

    with paddle_flashmask.enabled():
        layer = LlamaForCausalLM(LlamaConfig.from_pretrained(str(model_folders["llama"]))).llama.layers[0].self_attn
        assert layer.attn_func is not scaled_dot_product_attention
    assert layer.attn_func is scaled_dot_product_attention


def test_the_patches_are_the_same_objects_each_time():
    assert model_library_patches() == model_library_patches() != []


def test_an_unknown_version_is_refused_and_nothing_stays_patched(monkeypatch):
    def fusion_flash_attention(query_states, config, key_states, value_states, attention_mask, new_argument):
        raise AssertionError

    monkeypatch.setattr(fusion_ops, "fusion_flash_attention", fusion_flash_attention)
    with pytest.raises(NotImplementedError, match=r"this is 3\.0\.0b4, where .*new_argument"):
        paddle_flashmask.enable()
    assert fusion_ops.fusion_flash_attention is fusion_flash_attention
    assert "attn_func" not in vars(LlamaAttention)


def test_what_something_else_put_there_is_left_alone(monkeypatch):
    monkeypatch.setattr(fusion_ops, "fusion_flash_attention", fusion_ops.fusion_flash_attention)  # undone at the end
    paddle_flashmask.enable()
    theirs = lambda: None  # noqa: E731
    fusion_ops.fusion_flash_attention = theirs
    with pytest.warns(UserWarning, match="left as it is"):
        paddle_flashmask.disable()
    assert fusion_ops.fusion_flash_attention is theirs
