"""Error rule: at most twice the error of a plain implementation in the same precision, against float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .dense import dense_attention
from .problem import Problem

# Slack where the plain implementation happens to be exact (one key, a cancelled gradient): a few float32 roundings of
# the summed terms.
SLACK = 8 * float(np.finfo(np.float32).eps)
UNIT_ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}


class Expectation:
    """Float64 results of a problem, and the errors allowed in its precision: `factor` times the plain implementation's.

    draws: number of data sets that the plain error is taken over. The roundings of a short sum may cancel by chance.
    Further draws are made only for a result that fails the first.
    """

    def __init__(self, problem: Problem, factor: float = 2.0, draws: int = 1):
        self.problem = problem
        self.factor = factor
        self.draws_left = draws - 1
        self.truth = dense_attention(problem, "float64")
        self.plain_errors = _plain_errors(problem, self.truth)

    def check(self, results: dict[str, np.ndarray], context: str = "") -> None:
        for name, result in results.items():
            problem = self._difference(name, result)
            if problem and self.draws_left:
                self._draw_more()
                problem = self._difference(name, result)
            if problem:
                raise AssertionError(f"{name}: {problem}\n{self.problem} {context}")

    def _draw_more(self) -> None:
        for draw in range(1, self.draws_left + 1):
            other = replace(self.problem, data_seed=self.problem.data_seed + draw)
            for name, error in _plain_errors(other, dense_attention(other, "float64")).items():
                self.plain_errors[name] = max(error, self.plain_errors[name])
        self.draws_left = 0

    def _difference(self, name: str, result: np.ndarray) -> str | None:
        truth = self.truth[name]
        if result.shape != truth.shape:
            return f"shape {result.shape}, expected {truth.shape}"
        finite = np.isfinite(truth)
        wrong = np.where(finite, ~np.isfinite(result), result != truth)
        if wrong.any():
            return f"{_at(wrong, result, truth)}, {np.count_nonzero(wrong)} of {wrong.size} elements"
        if not finite.any():
            return None
        with np.errstate(invalid="ignore"):
            error = np.where(finite, np.abs(result - truth), 0.0)
        plain_error = self.plain_errors[name]
        allowed = self.factor * plain_error + SLACK * float(self.truth[f"scale of {name}"])
        if name in ("dquery", "dkey"):
            # delta is computed from the stored `out`; in the plain products equal roundings may cancel by chance.
            allowed += UNIT_ROUNDOFF[self.problem.dtype] * float(self.truth[f"rounding of {name}"])
        if name == "dsink":
            # One number per head that sums the rounding errors of all rows. The plain error is one sample of a random
            # walk and may be near zero by chance, so the length of the walk, from rounding `out`, is allowed too.
            allowed += 2 * UNIT_ROUNDOFF[self.problem.dtype] * float(self.truth["spread of dsink"])
        if error.max() <= allowed:
            return None
        beyond = error > allowed
        return (
            f"error {error.max():.3e}, allowed {allowed:.3e} (plain {plain_error:.3e}); worst "
            f"{_at(error == error.max(), result, truth)}; first {_at(beyond, result, truth)}; "
            f"{np.count_nonzero(beyond)} of {beyond.size} elements"
        )


def _plain_errors(problem: Problem, truth: dict[str, np.ndarray]) -> dict[str, float]:
    errors = {}
    for name, plain in dense_attention(problem, problem.dtype).items():
        expected = np.asarray(truth[name])
        with np.errstate(invalid="ignore"):
            difference = np.where(np.isfinite(expected), np.abs(plain - expected), 0.0)
        errors[name] = float(difference.max(initial=0.0))
    return errors


def _at(where: np.ndarray, result: np.ndarray, truth: np.ndarray) -> str:
    index = tuple(int(i) for i in np.argwhere(where)[0])
    return f"at {list(index)} got {result[index]!r}, expected {truth[index]!r}"


def assert_same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray], context: str) -> None:
    assert first.keys() == second.keys()
    for name in first:
        a, b = (x.view(np.uint32) for x in (first[name], second[name]))
        if not np.array_equal(a, b):
            index = tuple(int(i) for i in np.argwhere(a != b)[0])
            raise AssertionError(
                f"{name} differs {context}: {np.count_nonzero(a != b)} of {a.size} elements, first at {list(index)}: "
                f"{first[name][index]!r} and {second[name][index]!r}"
            )
