"""Dense attention in NumPy, forward and backward: the truth in float64, a plain implementation in the kernels' dtypes.

The plain implementation stores every product, the probabilities and their gradients rounded to its dtype, and computes
the softmax in float32.
"""

from __future__ import annotations

import numpy as np

from .dtypes import round_to
from .problem import Problem

OUTPUTS = ("out", "lse")
GRADIENTS = ("dquery", "dkey", "dvalue", "dsink")


def dense_attention(problem: Problem, precision: str) -> dict[str, np.ndarray]:
    """out, lse, dquery, dkey, dvalue and (with a sink) dsink; `precision` is float64, float32, bfloat16 or float16.

    In float64 there are also bounds for the error rule. "scale of <name>" is the largest sum of absolute values behind
    an element, which rounding errors of any summation order are relative to, because the sum itself may cancel. For
    dquery and dkey, "rounding of <name>" bounds their change under a relative change of `out` by one. For dsink,
    "spread of dsink" is the root of the summed squares of its changes under such changes of each row.
    """
    work = np.float64 if precision == "float64" else np.float32

    def stored(x: np.ndarray) -> np.ndarray:
        return x if precision in ("float64", "float32") else round_to(x, precision)

    data = {name: x.astype(work) for name, x in problem.inputs.items()}
    B, Sq, Hq, Hkv = problem.batch, problem.seqlen_q, problem.heads_q, problem.heads_kv
    group = Hq // Hkv
    query = data["query"].transpose(0, 2, 1, 3)
    key = np.repeat(data["key"].transpose(0, 2, 1, 3), group, axis=1)
    value = np.repeat(data["value"].transpose(0, 2, 1, 3), group, axis=1)
    dout = data["dout"].transpose(0, 2, 1, 3)
    dlse = data["dlse"] if problem.dlse else np.zeros((B, Hq, Sq), work)
    scale = work(problem.scale)
    keep = np.ones((), work) if problem.keep is None else problem.keep.astype(work)

    scores = stored(stored(query @ key.swapaxes(-1, -2)) * scale)
    scores = np.where(problem.visible, scores, work(-np.inf))
    row_max = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    if problem.sink:
        sink = data["sink"].reshape(1, Hq, 1, 1)
        row_max = np.maximum(row_max, sink)
    shift = np.where(np.isneginf(row_max), work(0), row_max)
    weights = np.exp(scores - shift)
    denominator = weights.sum(axis=-1, keepdims=True)
    if problem.sink:
        denominator = denominator + np.exp(sink - shift)
    sees = denominator > 0
    denominator = np.where(sees, denominator, work(1))
    lse = np.where(sees, shift + np.log(denominator), work(-np.inf))
    probabilities = stored(weights / denominator)
    kept = stored(probabilities * keep)
    out = stored(kept @ value)

    dweights = stored(stored(dout @ value.swapaxes(-1, -2)) * keep)
    delta = (dout * out).sum(axis=-1, keepdims=True)
    dlse = np.where(sees, dlse[..., None], work(0))
    # The backward pass receives lse, not the probabilities, so the plain error includes the rounding of lse.
    probabilities = stored(np.exp(scores - np.where(sees, lse, work(0))))
    kept = stored(probabilities * keep)
    dscores = stored(probabilities * (dweights - delta + dlse))

    def sum_groups(x: np.ndarray) -> np.ndarray:
        return x.reshape(B, Hkv, group, *x.shape[2:]).sum(axis=2)

    result = {
        "out": out.transpose(0, 2, 1, 3),
        "lse": lse[..., 0],
        "dquery": stored(scale * (dscores @ key)).transpose(0, 2, 1, 3),
        "dkey": stored(sum_groups(scale * (dscores.swapaxes(-1, -2) @ query))).transpose(0, 2, 1, 3),
        "dvalue": stored(sum_groups(kept.swapaxes(-1, -2) @ dout)).transpose(0, 2, 1, 3),
    }
    if problem.sink:
        share = np.exp(sink - lse)
        result["dsink"] = (share * (dlse - delta)).sum(axis=(0, 2, 3))
    if precision == "float64":
        weight = np.abs(dout) @ np.abs(value).swapaxes(-1, -2) * keep
        out_scale = kept @ np.abs(value)
        delta_scale = (np.abs(dout) * out_scale).sum(axis=-1, keepdims=True)
        score_scale = probabilities * (weight + delta_scale + np.abs(dlse))
        # Change through delta under a relative change of `out` by one.
        delta_change = probabilities * (np.abs(dout) * np.abs(out)).sum(axis=-1, keepdims=True)
        result["rounding of dquery"] = np.max(abs(scale) * (delta_change @ np.abs(key)), initial=0.0)
        result["rounding of dkey"] = np.max(
            sum_groups(abs(scale) * (delta_change.swapaxes(-1, -2) @ np.abs(query))), initial=0.0
        )
        scales = {
            "out": out_scale,
            "lse": 1.0 + np.abs(np.where(sees, lse, 0.0)),
            "dquery": abs(scale) * (score_scale @ np.abs(key)),
            "dkey": sum_groups(abs(scale) * (score_scale.swapaxes(-1, -2) @ np.abs(query))),
            "dvalue": sum_groups(kept.swapaxes(-1, -2) @ np.abs(dout)),
        }
        if problem.sink:
            scales["dsink"] = (share * (np.abs(dlse) + delta_scale)).sum(axis=(0, 2, 3))
            result["spread of dsink"] = np.sqrt(((share * dout * out) ** 2).sum(axis=(0, 2, 3)).max(initial=0.0))
        for name, bound in scales.items():
            result[f"scale of {name}"] = np.max(bound, initial=0.0)
    return result
