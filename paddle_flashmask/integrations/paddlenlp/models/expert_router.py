"""The router of PaddleNLP's mixture-of-experts models (Qwen2-MoE, DeepSeek) on recent Paddle.

`PretrainedMoEGate._priority` of PaddleNLP 3.0.0b4 multiplies an int32 tensor by its own running sum. In Paddle 3.3 the
running sum of int32 is int64, and int64 times int32 is an error, so these models stop with `Type promotion only support
calculations between floating-point numbers`.
"""

from __future__ import annotations

import inspect
from types import ModuleType

import paddle
import paddle.nn.functional as F

from .replacements import Replacements, unknown_version


def patch(module: ModuleType, replacements: Replacements) -> None:
    """Replace `_priority` unless this Paddle keeps int32. module: paddlenlp.transformers.moe_gate."""
    if paddle.cumsum(paddle.zeros([1], dtype="int32"), axis=0).dtype == paddle.int32:
        return
    gate = getattr(module, "PretrainedMoEGate", None)
    parameters = list(inspect.signature(gate._priority).parameters) if hasattr(gate, "_priority") else None
    if parameters != ["self", "topk_idx", "capacity"]:
        raise unknown_version(f"{module.__name__}.PretrainedMoEGate._priority has the parameters {parameters}")
    replacements.put(gate, "_priority", places_at_experts)


def places_at_experts(self, topk_idx: paddle.Tensor, capacity: int) -> paddle.Tensor:
    """Assign tokens to places in the buffers of their experts.

    topk_idx: [T, k], the experts of every token, best first. All first choices get places before the second choices;
    a token whose expert is full gets none. Returns int32 [T, E, capacity], 1 where token t has that place of expert e.
    """
    chosen = F.one_hot(topk_idx.transpose([1, 0]).reshape([-1]), self.num_experts).cast("int64")
    place = (paddle.cumsum(chosen, axis=0) * chosen - 1).reshape([self.top_k, -1, self.num_experts]).max(axis=0)
    fits = paddle.logical_and(place >= 0, place < capacity)
    slots = F.one_hot(paddle.where(fits, place, paddle.zeros_like(place)), capacity)
    return slots.cast("int32") * fits.unsqueeze(-1).cast("int32")
