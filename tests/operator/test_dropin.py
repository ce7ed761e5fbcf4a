"""enable(), disable() and enabled(): the functions they replace and restore."""

from __future__ import annotations

import importlib
import inspect

import paddle
import pytest

import paddle_flashmask
from paddle_flashmask import _dropin

MODULES = [importlib.import_module(name) for name in ("paddle.nn.functional", "paddle.nn.functional.flash_attention")]


@pytest.fixture(autouse=True)
def paddles_own() -> list:
    """Check that a test ends, as it starts, with Paddle's own functions in place."""
    paddle_flashmask.disable()
    own = [module.flashmask_attention for module in MODULES]
    assert paddle_flashmask.flashmask_attention not in own
    yield own
    paddle_flashmask.disable()
    assert [module.flashmask_attention for module in MODULES] == own


def are_routed() -> bool:
    routed = [module.flashmask_attention is paddle_flashmask.flashmask_attention for module in MODULES]
    assert len(set(routed)) == 1
    return routed[0]


class Recorder:
    """Patch of a model library that records its calls."""

    def __init__(self, fails: bool = False) -> None:
        self.installed = 0
        self.fails = fails

    def install(self) -> None:
        if self.fails:
            raise NotImplementedError("unknown version")
        self.installed += 1

    def uninstall(self) -> None:
        self.installed -= 1


@pytest.fixture
def patches(monkeypatch) -> list[Recorder]:
    found = [Recorder(), Recorder()]
    monkeypatch.setattr(_dropin, "_model_library_patches", lambda: found)
    return found


def test_paddles_name_runs_on_the_cpu() -> None:
    query = paddle.randn([1, 5, 2, 4])
    paddle_flashmask.enable()
    found = paddle.nn.functional.flashmask_attention(query, query, query, causal=True)
    expected = paddle_flashmask.flashmask_attention(query, query, query, causal=True)
    assert paddle.equal_all(found, expected)


def test_enable_and_disable_may_be_repeated(patches) -> None:
    paddle_flashmask.disable()
    paddle_flashmask.enable()
    paddle_flashmask.enable()
    assert are_routed() and [p.installed for p in patches] == [1, 1]
    paddle_flashmask.disable()
    assert not are_routed() and [p.installed for p in patches] == [0, 0]
    paddle_flashmask.disable()
    assert [p.installed for p in patches] == [0, 0]


def test_context_manager_leaves_the_state_it_found(patches) -> None:
    with paddle_flashmask.enabled():
        assert are_routed()
        with paddle_flashmask.enabled():
            assert are_routed()
        assert are_routed()
    assert not are_routed()
    paddle_flashmask.enable()
    with paddle_flashmask.enabled():
        pass
    assert are_routed()


def test_context_manager_takes_back_after_an_exception(patches) -> None:
    with pytest.raises(KeyError), paddle_flashmask.enabled():
        raise KeyError
    assert not are_routed() and [p.installed for p in patches] == [0, 0]


def test_a_patch_that_fails_takes_everything_back(patches) -> None:
    patches.append(Recorder(fails=True))
    with pytest.raises(NotImplementedError, match="unknown version"):
        paddle_flashmask.enable()
    assert not are_routed() and [p.installed for p in patches] == [0, 0, 0]


def test_a_later_replacement_is_left_alone(patches, monkeypatch) -> None:
    def replacement() -> None: ...

    module = MODULES[0]
    own = module.flashmask_attention
    paddle_flashmask.enable()
    module.flashmask_attention = replacement
    with pytest.warns(UserWarning, match="paddle.nn.functional.flashmask_attention was replaced after"):
        paddle_flashmask.disable()
    assert module.flashmask_attention is replacement
    module.flashmask_attention = own


def test_importing_patches_nothing() -> None:
    importlib.import_module("paddle_flashmask.functional")
    assert not are_routed()


def test_the_first_parameters_are_paddles() -> None:
    theirs = list(inspect.signature(paddle.nn.functional.flashmask_attention).parameters.values())
    ours = list(inspect.signature(paddle_flashmask.flashmask_attention).parameters.values())
    described = [[(p.name, p.kind, p.default) for p in parameters] for parameters in (ours, theirs)]
    assert described[0][: len(theirs)] == described[1]
