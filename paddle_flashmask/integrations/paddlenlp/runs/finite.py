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
        if not bool(paddle.isfinite(parameter).all()):
            raise RunError(f"the weights hold NaN or infinity after step {step}, first in {name}")


class FiniteGradients(TrainerCallback):
    """Stops before an optimizer step whose gradient norm is NaN or infinite, so that the weights stay as they are.

    With a loss scaler (fp16), which skips such steps itself, it does nothing.
    """

    def on_optimizer_begin(self, args, state, control, model=None, scaler=None, **kwargs):
        if scaler is not None:
            return
        norms = {
            name: paddle.linalg.norm(gradient).astype("float32")
            for name, parameter in model.named_parameters()
            if (gradient := _gradient(parameter)) is not None
        }
        if not norms or np.isfinite(float(paddle.stack(list(norms.values())).square().sum())):
            return
        check_weights(model, state.global_step)
        names = [name for name, norm in norms.items() if not np.isfinite(float(norm))]
        raise RunError(
            f"the gradient norm of step {state.global_step + 1} is NaN or infinite"
            + (f", first in {names[0]}" if names else "")
        )


def _gradient(parameter: paddle.Tensor) -> paddle.Tensor | None:
    main = getattr(parameter, "main_grad", None)
    return parameter.grad if main is None else main
