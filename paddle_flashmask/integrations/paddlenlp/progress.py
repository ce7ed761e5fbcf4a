"""Progress lines for the user, and the token counts and step times behind the speed figures."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from paddlenlp.trainer import TrainerCallback

from .processes import joined


class ProgressLines(TrainerCallback):
    """Writes one line per logged step and per evaluation. Tokens are those of documents, in all processes, without
    padding."""

    def __init__(self, write: Callable[[str], None]):
        self.write = write
        self.losses: list[tuple[int, float]] = []
        self.evaluations: list[dict[str, float]] = []
        self.metrics: list[dict[str, float]] = []
        self.tokens = 0
        self.step_seconds: list[float] = []
        self._new_tokens = 0
        self._batch_tokens = 0
        self._step_tokens = 0
        self._step_started = 0.0

    def on_load_data_end(self, args, state, control, inputs=None, **kwargs):
        self._batch_tokens = _document_tokens(inputs)
        self._step_tokens += self._batch_tokens

    def on_step_begin(self, args, state, control, **kwargs):
        self._step_tokens = self._batch_tokens  # drops batches that a resumed run skipped
        self._step_started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.step_seconds.append(time.perf_counter() - self._step_started)
        self._new_tokens += self._step_tokens
        self._step_tokens = 0

    def on_log(self, args, state, control, logs=None, **kwargs):
        logs = logs or {}
        self._count_tokens()
        step = f"step {state.global_step}/{state.max_steps}"
        if "eval_loss" in logs:
            self.evaluations.append({"step": state.global_step, **logs})
            self.write(f"{step}  evaluation loss {logs['eval_loss']:.6f}{_shown(logs, 'eval_')}")
        elif "loss" in logs and self.step_seconds:
            self.losses.append((state.global_step, float(logs["loss"])))
            self.metrics.append({"step": state.global_step, **logs})
            self.write(
                f"{step}  loss {logs['loss']:.6f}{_shown(logs, '')}  {self.tokens_per_second():,.0f} tokens/s  "
                f"{sum(self.step_seconds) / len(self.step_seconds):.2f} s per step"
            )

    def on_train_end(self, args, state, control, **kwargs):
        self._count_tokens()

    def tokens_per_second(self) -> float:
        """Up to the last log, over the time of the steps alone."""
        return self.tokens / sum(self.step_seconds)

    def _count_tokens(self):
        self.tokens += int(joined(np.array([self._new_tokens])).sum())
        self._new_tokens = 0


_SHOWN = {
    "accuracy": "accuracy",
    "margin": "margin",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "ratio": "ratio",
    "clipped": "clipped",
}


def _shown(logs: dict[str, float], prefix: str) -> str:
    """The figures of _SHOWN, if the task logs them."""
    return "".join(f"  {text} {logs[prefix + key]:.4f}" for key, text in _SHOWN.items() if prefix + key in logs)


def _document_tokens(inputs) -> int:
    columns = inputs.get("attn_mask_startend_row_indices")
    if columns is not None:  # a padding key is hidden from row 0 on
        return int(((columns if columns.ndim == 3 else columns[..., 0]) > 0).sum())
    return int(inputs["attention_mask"].any(axis=-1).sum())
