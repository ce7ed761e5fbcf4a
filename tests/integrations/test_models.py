"""Training on columns is training on each sample alone, and on the dense mask: every model, mask and attention path."""

from __future__ import annotations

import pytest
from model_cases import (
    KINDS,
    MODELS,
    assert_same_run,
    dense_loss,
    expected_run,
    loss_of_samples_alone,
    packed_run,
)


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_training_equals_the_samples_alone_and_the_dense_mask(name, kind, flash):
    found = packed_run(name, kind, flash=flash)
    assert_same_run(found, expected_run(name, kind, loss_of_samples_alone))
    assert_same_run(found, expected_run(name, kind, dense_loss))
