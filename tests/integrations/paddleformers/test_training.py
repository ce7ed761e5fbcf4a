"""Training steps on packs give the losses of training without packing and of training under the dense mask."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from tiny_models import FULL_ATTENTION, TOKENS, build, documents, loss_sum, packed_batch

STEPS = 6


def losses(name: str, implementation: str, batches_of_step) -> list[float]:
    model = build(name, implementation)
    model.train()
    optimizer = paddle.optimizer.AdamW(2e-3, parameters=model.parameters(), epsilon=1e-6)
    found = []
    for step in range(STEPS):
        batches = batches_of_step(step)
        tokens = sum(int((batch["labels"] != -100).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            loss = loss_sum(model, batch)[0] / tokens
            loss.backward()
            total += float(loss)
        optimizer.step()
        optimizer.clear_grad()
        found.append(total)
    return found


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "qwen3_vl_text", "gpt_oss"])
def test_steps(name, registered):
    def packed(step):
        return [packed_batch(seed=step)]

    found = losses(name, "paddle_flashmask", packed)
    assert found[-1] != pytest.approx(found[0], rel=1e-3)  # it trains
    alone = losses(name, "eager", lambda step: documents(packed_batch(seed=step)))
    np.testing.assert_allclose(found, alone, rtol=1e-5)
    if name in FULL_ATTENTION:
        dense = losses(name, "eager", lambda step: [packed_batch("dense", seed=step)])
        np.testing.assert_allclose(found, dense, rtol=1e-5)


def test_the_models_own_loss(registered):
    """PaddleFormers' criterion takes the labels of this package's packs unchanged, already shifted."""
    batch = packed_batch()
    model = build("llama", "paddle_flashmask")
    loss = model(**batch)[0]
    assert float(loss) == pytest.approx(float(loss_sum(model, batch)[0]) / TOKENS, rel=1e-6)
