"""Tests of PaddleFormers, in the environment that `make test-paddleformers` makes: it can't share PaddleNLP's."""

from __future__ import annotations

import importlib.util

import pytest

_spec = importlib.util.find_spec("paddleformers")
if _spec is None or _spec.origin is None:  # this folder has the library's name, but no origin
    pytest.exit("tests/paddleformers needs PaddleFormers: run `make test-paddleformers`", returncode=1)

import paddle_flashmask  # noqa: E402
from paddle_flashmask.integrations.paddleformers import patch  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def quiet_paddleformers():
    from paddleformers.utils.log import logger

    logger.set_level("ERROR")


@pytest.fixture
def registered():
    """`paddle_flashmask` in the registry for one test."""
    patch.register()
    yield
    patch._REGISTRATION.uninstall()


@pytest.fixture(autouse=True)
def leave_nothing_enabled():
    yield
    paddle_flashmask.disable()
