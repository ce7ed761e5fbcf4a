"""Fixtures of the PaddleFormers tests, which run in the environment that `make test-paddleformers` creates."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("paddleformers") is None:
    pytest.exit("tests/integrations/paddleformers needs PaddleFormers: run `make test-paddleformers`", returncode=1)

import paddle_flashmask
from paddle_flashmask.integrations.paddleformers import patch


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
