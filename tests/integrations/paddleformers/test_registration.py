"""Registration with PaddleFormers, and its exact removal."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import paddleformers.cli.train.dpo.dpo_trainer as dpo_trainer
import paddleformers.datasets.DPODataset as dpo_data
import paddleformers.nn.attention.flashmask_attention as stock
import paddleformers.transformers.gemma3_text.modeling as gemma3
import pytest
from paddleformers.nn.attention.interface import ALL_ATTENTION_FUNCTIONS, AttentionInterface
from tiny_models import build, documents, packed_batch

import paddle_flashmask
from paddle_flashmask.integrations import model_library_patches
from paddle_flashmask.integrations.paddleformers import attention, patch

OURS = attention.paddle_flashmask_attention


def state() -> tuple[dict, ...]:
    classes = (dpo_data.BaseDPODataSet, dpo_trainer.DPOTrainer, gemma3.Gemma3Attention)
    return dict(AttentionInterface._global_mapping), vars(stock).copy(), *(dict(vars(cls)) for cls in classes)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_registering_adds_one_name(registered):
    assert ALL_ATTENTION_FUNCTIONS["paddle_flashmask"] is OURS
    assert ALL_ATTENTION_FUNCTIONS["flashmask"] is stock.flashmask_attention_forward
    patch.register()  # a second time changes nothing
    assert list(AttentionInterface._global_mapping) == ["eager", "sdpa", "flashmask", "paddle_flashmask"]


def test_enable_routes_the_default_too_and_disable_restores_the_very_objects():
    before = state()
    paddle_flashmask.enable()
    assert ALL_ATTENTION_FUNCTIONS["flashmask"] is ALL_ATTENTION_FUNCTIONS["paddle_flashmask"] is OURS
    paddle_flashmask.disable()
    assert state() == before
    assert "attn_implementation" not in vars(gemma3.Gemma3Attention)  # an attribute of layers, not of the class


def test_enable_over_a_registration(registered):
    before = state()
    with paddle_flashmask.enabled():
        assert ALL_ATTENTION_FUNCTIONS["flashmask"] is OURS
    assert state() == before
    assert ALL_ATTENTION_FUNCTIONS["paddle_flashmask"] is OURS


def test_neither_importing_nor_enabling_imports_paddleformers():
    out = run_python(
        """
import sys, paddle_flashmask
import paddle_flashmask.integrations.paddleformers as integration
assert "paddle" not in sys.modules
import paddle
stock_function = paddle.nn.functional.flashmask_attention
integration.register()
paddle_flashmask.enable()
assert "paddleformers" not in sys.modules
from paddleformers.nn.attention import flashmask_attention, interface
assert flashmask_attention.flashmask_attention is paddle_flashmask.flashmask_attention
assert interface.ALL_ATTENTION_FUNCTIONS["flashmask"] is interface.ALL_ATTENTION_FUNCTIONS["paddle_flashmask"]
paddle_flashmask.disable()
assert flashmask_attention.flashmask_attention is stock_function
assert interface.ALL_ATTENTION_FUNCTIONS["flashmask"] is flashmask_attention.flashmask_attention_forward
assert "paddle_flashmask" in interface.ALL_ATTENTION_FUNCTIONS
print("fine")
"""
    )
    assert out.strip().endswith("fine")


def test_the_printed_file_registers_as_paddleformers_runs_it():
    path = run_python(
        "import runpy; runpy.run_module('paddle_flashmask.integrations.paddleformers', run_name='__main__')"
    )
    out = run_python(
        f"""
from paddleformers.cli.hparams.parser import _load_custom_template
from paddleformers.nn.attention.interface import AttentionInterface
_load_custom_template({path.strip()!r})
print(AttentionInterface._global_mapping["paddle_flashmask"].__name__)
"""
    )
    assert out.strip().endswith("paddle_flashmask_attention")


def test_the_patches_are_the_same_objects_each_time():
    assert model_library_patches() == model_library_patches() == [patch.PADDLEFORMERS_PATCH]


def test_another_version_is_refused_and_nothing_stays_changed(monkeypatch):
    before = state()
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.3.0" if name == "paddleformers" else version(name)
    )
    with pytest.raises(NotImplementedError, match=r"supports .* PaddleFormers 0\.3\.1 and 1\.2; this is 1\.3\.0"):
        patch.register()
    with pytest.raises(NotImplementedError, match="layout of query, key and value"):
        paddle_flashmask.enable()
    assert state() == before


def test_another_signature_is_refused(monkeypatch):
    def entry(module, query, key, value, new_argument):
        raise AssertionError

    monkeypatch.setitem(AttentionInterface._global_mapping, "eager", entry)
    with pytest.raises(NotImplementedError, match="new_argument"):
        patch.register()
    assert "paddle_flashmask" not in ALL_ATTENTION_FUNCTIONS


def test_what_something_else_put_there_is_left_alone(monkeypatch):
    monkeypatch.setitem(AttentionInterface._global_mapping, "flashmask", stock.flashmask_attention_forward)
    paddle_flashmask.enable()
    theirs = lambda *_: None  # noqa: E731
    AttentionInterface.register("flashmask", theirs)
    with pytest.warns(UserWarning, match="'flashmask' of PaddleFormers was replaced .* left as it is"):
        paddle_flashmask.disable()
    assert ALL_ATTENTION_FUNCTIONS["flashmask"] is theirs
    assert "paddle_flashmask" not in ALL_ATTENTION_FUNCTIONS


def test_a_method_that_something_else_replaced_is_left_alone(monkeypatch):
    monkeypatch.setattr(dpo_data.BaseDPODataSet, "_postprocess_sequence", dpo_data.BaseDPODataSet._postprocess_sequence)
    paddle_flashmask.enable()
    theirs = lambda *_: None  # noqa: E731
    dpo_data.BaseDPODataSet._postprocess_sequence = theirs
    with pytest.warns(UserWarning, match=r"BaseDPODataSet\._postprocess_sequence was replaced .* left as it is"):
        paddle_flashmask.disable()
    assert dpo_data.BaseDPODataSet._postprocess_sequence is theirs


def test_a_library_without_what_is_replaced_is_refused(monkeypatch):
    monkeypatch.delattr(dpo_data.BaseDPODataSet, "_postprocess_sequence")
    with pytest.raises(NotImplementedError, match=r"DPODataset lacks BaseDPODataSet\._postprocess_sequence"):
        patch.register()
    assert "paddle_flashmask" not in ALL_ATTENTION_FUNCTIONS


def test_gemma3_stays_at_its_implementation(monkeypatch):
    alone = documents(packed_batch())[0]["input_ids"]

    def implementations(name: str) -> list[str]:
        model = build("gemma3", name)
        model(input_ids=alone)
        return [block.self_attn.attn_implementation for block in model.model.layers]

    with paddle_flashmask.enabled():
        for name in ("paddle_flashmask", "flashmask"):
            assert implementations(name) == [name, name]
    # PaddleFormers by itself: the layer that got no mask changes for good; the sliding one is given a dense mask.
    monkeypatch.setitem(AttentionInterface._global_mapping, "other", OURS)
    assert implementations("other") == ["other", "sdpa"]
