"""The PaddleFormers 0.3.1 tests, which run in the environment that `make test-erniekit` creates."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("erniekit") is None:
    pytest.exit("tests/integrations/erniekit needs ERNIEKit: run `make test-erniekit`", returncode=1)

import paddle_flashmask


@pytest.fixture(autouse=True)
def enabled():
    """ERNIEKit writes `flashmask` into the config of its model, which `enable()` routes to the operator."""
    with paddle_flashmask.enabled():
        yield
