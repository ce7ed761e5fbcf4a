"""A run stops at NaN or infinity in its weights or gradients.

The loss does not show them: Paddle's cross-entropy on the CPU gives ln(vocabulary) for logits that are NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddlenlp.trainer import TrainerCallback

from ..errors import RunError


def check_weights(model: Any, step: int) -> None:
    """Raise RunError with the first parameter that holds NaN or infinity. step: steps trained so far."""
    for name, parameter in model.named_parameters():
        if not np.isfinite(_squares([parameter])):
            raise RunError(f"the weights hold NaN or infinity after step {step}, first in {name}")


class FiniteGradients(TrainerCallback):
    """Stops before an optimizer step whose gradient norm is NaN or infinite, so that the weights stay as they are.

    With a loss scaler (fp16), which skips such steps itself, it does nothing.
    """

    def on_optimizer_begin(self, args, state, control, model=None, scaler=None, **kwargs):
        if scaler is not None:
            return
        gradients = {name: _gradient(parameter) for name, parameter in model.named_parameters()}
        gradients = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        if not gradients or np.isfinite(_squares(list(gradients.values()))):
            return
        check_weights(model, state.global_step)
        names = [name for name, gradient in gradients.items() if not np.isfinite(_squares([gradient]))]
        raise RunError(
            f"the gradient norm of step {state.global_step + 1} is NaN or infinite"
            + (f", first in {names[0]}" if names else "")
        )


def _gradient(parameter: paddle.Tensor) -> paddle.Tensor | None:
    main = getattr(parameter, "main_grad", None)
    return parameter.grad if main is None else main


def _squares(tensors: list[paddle.Tensor]) -> float:
    """Sum of squares in float32. NaN, infinity or overflow in any tensor makes it NaN or infinite."""
    with paddle.no_grad():
        return float(paddle.add_n([tensor.astype("float32").square().sum() for tensor in tensors]))
