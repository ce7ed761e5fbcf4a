"""A run stops at NaN or infinity in its weights or gradients, in all processes at once.

The loss does not show them: Paddle's cross-entropy on the CPU gives ln(vocabulary) for logits that are NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddlenlp.trainer import TrainerCallback

from ..errors import RunError
from ..processes import of_every_process


def check_weights(model: Any, step: int) -> None:
    """Raise RunError with the first parameter that holds NaN or infinity. step: steps trained so far.

    Every process must call it: one that holds a part of the model may be the only one that finds anything.
    """
    held = ((name, _held(parameter)) for name, parameter in model.named_parameters())
    broken = next((name for name, values in held if not bool(paddle.isfinite(values).all())), None)
    if broken := _first(broken):
        raise RunError(f"the weights hold NaN or infinity after step {step}, first in {broken}")


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
        broken = None
        if norms and not np.isfinite(float(paddle.stack(list(norms.values())).square().sum())):
            broken = next((name for name, norm in norms.items() if not np.isfinite(float(norm))), "their sum")
        if broken := _first(broken):
            check_weights(model, state.global_step)
            raise RunError(f"the gradient norm of step {state.global_step + 1} is NaN or infinite, first in {broken}")


def _first(name: str | None) -> str | None:
    """The name that the first process found, of those that found one."""
    return next((name for name in of_every_process(name) if name is not None), None)


def _held(parameter: paddle.Tensor) -> paddle.Tensor:
    """The values of a parameter in this process: between the layers, sharding stage 3 keeps a slice of it."""
    return parameter.fw_storage if getattr(parameter, "status", "all") == "part" else parameter


def _gradient(parameter: paddle.Tensor) -> paddle.Tensor | None:
    main = getattr(parameter, "main_grad", None)
    if main is not None:
        return main
    return parameter.grad if parameter.grad is not None else getattr(parameter, "bw_storage", None)
