"""Dense attention in torch, in chunks of rows, for lengths whose scores do not fit into memory.

Computes what dense.py does. Each row of the scores contributes to the results independently, so one pass over the rows
is enough.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .compare import Expectation
from .problem import Problem
from .torch_call import TORCH_DTYPES

Tensors = dict[str, torch.Tensor]
_CHUNK_ELEMENTS = 1 << 27  # scores of one chunk: 1 GiB in float64
_BLOCK = 128


class TorchExpectation(Expectation):
    """Error rule of compare.py for chosen heads, without dense scores in NumPy.

    Gradients of key and value sum over a group of query heads, so heads are chosen by groups.
    """

    def __init__(self, problem: Problem, inputs: Tensors, heads: list[tuple[int, int]] | None = None) -> None:
        """heads: (batch, key head) pairs; all by default."""
        self.problem, self.factor, self.draws_left = problem, 2.0, 0
        everything = [(b, h) for b in range(problem.batch) for h in range(problem.heads_kv)]
        self.heads = everything if heads is None else heads
        self.truth = self._dense(inputs, "float64")
        plain = self._dense(inputs, problem.dtype)
        self.plain_errors = {name: _largest_error(plain[name], self.truth[name]) for name in plain}

    def expect(self, truth: dict[str, np.ndarray], tolerance: float) -> None:
        """Raises AssertionError unless the float64 results and their bounds equal those of dense.py."""
        names = [name for name in truth if " " not in name]
        whole = self.chosen({name: torch.from_numpy(np.ascontiguousarray(truth[name])) for name in names})
        for name in truth:
            ours, theirs = self.truth[name], whole.get(name, truth[name])
            scale = float(np.max(truth.get(f"scale of {name}", theirs), initial=0.0))
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale, err_msg=name)

    def chosen(self, results: Tensors) -> dict[str, np.ndarray]:
        """The chosen heads of whole tensors by name, [heads, ...]; dsink only if all heads are chosen."""
        group = self.problem.heads_q // self.problem.heads_kv
        chosen = {}
        for name, tensor in results.items():
            if name == "dsink":
                if len(self.heads) == self.problem.batch * self.problem.heads_kv:
                    chosen[name] = tensor.double().cpu().numpy()
                continue
            parts = []
            for b, h in self.heads:
                span = slice(h * group, (h + 1) * group) if name in ("out", "lse", "dquery") else slice(h, h + 1)
                parts.append(tensor[b, span] if name == "lse" else tensor[b, :, span])
            chosen[name] = torch.stack(parts).double().cpu().numpy()
        return chosen

    def _dense(self, inputs: Tensors, precision: str) -> dict[str, np.ndarray]:
        parts = [group_reference(self.problem, inputs, b, h, precision) for b, h in self.heads]
        merged = {}
        for name in parts[0]:
            columns = [part[name] for part in parts]
            if name == "dsink":
                total = torch.zeros(self.problem.heads_q, dtype=columns[0].dtype, device=columns[0].device)
                group = self.problem.heads_q // self.problem.heads_kv
                for (_, h), column in zip(self.heads, columns, strict=True):
                    total[h * group : (h + 1) * group] += column
                merged[name] = total
            elif name.endswith("dsink"):
                merged[name] = torch.stack(columns).amax() * self.problem.batch  # the batches add up
            elif " " in name:
                merged[name] = torch.stack(columns).amax()
            else:
                merged[name] = torch.stack(columns)
        return {name: tensor.double().cpu().numpy() for name, tensor in merged.items()}


def _largest_error(plain: np.ndarray, truth: np.ndarray) -> float:
    finite = np.isfinite(truth)
    return float(np.abs(plain[finite] - truth[finite]).max(initial=0.0))


def visible_rows(problem: Problem, b: int, head: int, rows: torch.Tensor) -> torch.Tensor:
    """Visible pairs of these rows of query head `head`, bool [rows, Sk]."""
    row = rows[:, None]
    key = torch.arange(problem.seqlen_k, device=rows.device)[None]
    diagonal = row + problem.offset_of_diagonal
    left, right = problem.window
    seen = torch.ones(len(rows), problem.seqlen_k, dtype=torch.bool, device=rows.device)
    if problem.causal:
        seen &= key <= diagonal
    if left >= 0:
        seen &= key >= diagonal - left
    if right >= 0:
        seen &= key <= diagonal + right
    mask_head = head // (problem.heads_q // problem.heads_mask)
    if problem.startend is not None:
        bounds = torch.from_numpy(problem.startend[b, mask_head].copy()).to(rows.device).clamp(0, problem.seqlen_q)
        for start, end in _hidden_intervals(bounds, problem.causal, problem.seqlen_q):
            seen &= ~((start <= row) & (row < end))
    if problem.block_mask is not None:
        kept = torch.from_numpy(problem.block_mask[b, mask_head].copy()).to(rows.device) != 0
        seen &= kept[row // _BLOCK, key // _BLOCK]
    return seen


def _hidden_intervals(bounds: torch.Tensor, causal: bool, seqlen_q: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    channel = bounds.unbind(-1)
    top, bottom = torch.zeros_like(channel[0]), torch.full_like(channel[0], seqlen_q)
    if len(channel) == 1:
        return [(channel[0], bottom)]
    if len(channel) == 2:
        return [(channel[0], channel[1])] if causal else [(channel[0], bottom), (top, channel[1])]
    return [(channel[0], channel[1]), (channel[2], channel[3])]


def group_reference(problem: Problem, inputs: Tensors, b: int, kv_head: int, precision: str) -> Tensors:
    """Results of the G query heads of one key head.

    out, dquery [Sq, G, .], lse [G, Sq], dkey, dvalue [Sk, 1, .], dsink [G]. In float64 also the bounds of
    dense.py.
    """
    group = problem.heads_q // problem.heads_kv
    per_head = [_Head(problem, inputs, b, kv_head, kv_head * group + g, precision) for g in range(group)]
    stored = per_head[0].stored
    result = {
        "out": torch.stack([head.out for head in per_head], dim=1),
        "lse": torch.stack([head.lse for head in per_head]),
        "dquery": torch.stack([head.dquery for head in per_head], dim=1),
        "dkey": stored(sum(head.dkey for head in per_head))[:, None],
        "dvalue": stored(sum(head.dvalue for head in per_head))[:, None],
    }
    if problem.sink:
        result["dsink"] = torch.stack([head.dsink for head in per_head])
    if precision == "float64":
        for name in per_head[0].bounds:
            columns = torch.stack([head.bounds[name] for head in per_head])
            summed = name in ("scale of dkey", "scale of dvalue", "rounding of dkey")
            result[name] = columns.sum(dim=0).amax() if summed else columns.amax()
    return result


class _Head:
    """One query head. All results but the sums over a group are rounded as `precision` stores them."""

    def __init__(self, problem: Problem, inputs: Tensors, b: int, kv_head: int, head: int, precision: str) -> None:
        self.work = torch.float64 if precision == "float64" else torch.float32
        self.precision = precision
        query, key = inputs["query"][b, :, head].to(self.work), inputs["key"][b, :, kv_head].to(self.work)
        value, dout = inputs["value"][b, :, kv_head].to(self.work), inputs["dout"][b, :, head].to(self.work)
        dlse = inputs["dlse"][b, head].to(self.work) if problem.dlse else None
        self.sink = inputs["sink"][head].to(self.work) if problem.sink else None
        self.scale = problem.scale
        self.out, self.dquery = torch.empty_like(dout), torch.empty_like(query)
        self.lse = torch.empty(len(query), dtype=self.work, device=query.device)
        self.dkey, self.dvalue = torch.zeros_like(key), torch.zeros_like(value)
        self.dsink = torch.zeros((), dtype=self.work, device=query.device)
        self.sums = {n: torch.zeros_like(key) for n in ("scale of dkey", "rounding of dkey")}
        self.sums["scale of dvalue"] = torch.zeros_like(value)
        zero = torch.zeros((), dtype=self.work, device=query.device)
        names = ("scale of out", "scale of lse", "scale of dquery", "rounding of dquery")
        self.largest = dict.fromkeys(names, zero)
        self.totals = {"scale of dsink": zero, "spread of dsink": zero}
        keep = _keep_rows(problem, b, head)
        step = max(1, _CHUNK_ELEMENTS // max(1, problem.seqlen_k))
        for first in range(0, problem.seqlen_q, step):
            rows = torch.arange(first, min(first + step, problem.seqlen_q), device=query.device)
            span = slice(first, first + len(rows))
            chunk_dlse = torch.zeros_like(self.lse[span]) if dlse is None else dlse[span]
            seen = visible_rows(problem, b, head, rows)
            self._rows(span, query[span], key, value, dout[span], chunk_dlse, seen, keep(span, query.device))

    def stored(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.precision in ("float64", "float32") else x.to(TORCH_DTYPES[self.precision]).to(self.work)

    def _rows(self, span, query, key, value, dout, dlse, seen, keep) -> None:
        stored = self.stored
        scores = stored(stored(query @ key.T) * self.scale).masked_fill_(~seen, -torch.inf)
        shift = scores.amax(dim=-1, keepdim=True) if scores.shape[1] else scores.new_full((len(query), 1), -torch.inf)
        if self.sink is not None:
            shift = torch.maximum(shift, self.sink)
        shift = torch.where(shift.isneginf(), 0.0, shift)
        weights = torch.exp(scores - shift)
        denominator = weights.sum(dim=-1, keepdim=True)
        if self.sink is not None:
            denominator = denominator + torch.exp(self.sink - shift)
        sees = denominator > 0
        denominator = torch.where(sees, denominator, 1.0)
        lse = torch.where(sees, shift + torch.log(denominator), -torch.inf)
        kept = stored(stored(weights / denominator) * keep)
        out = stored(kept @ value)
        dweights = stored(stored(dout @ value.T) * keep)
        delta = (dout * out).sum(dim=-1, keepdim=True)
        dlse = torch.where(sees, dlse[:, None], 0.0)
        probabilities = stored(torch.exp(scores - torch.where(sees, lse, 0.0)))
        kept = stored(probabilities * keep)
        dscores = stored(probabilities * (dweights - delta + dlse))
        self.out[span], self.lse[span] = out, lse[:, 0]
        self.dquery[span] = stored(self.scale * (dscores @ key))
        self.dkey += self.scale * (dscores.T @ query)
        self.dvalue += kept.T @ dout
        share = None
        if self.sink is not None:
            share = torch.exp(self.sink - lse)
            self.dsink += (share * (dlse - delta)).sum()
        if self.precision == "float64":
            self._bounds(query, key, value, dout, out, lse, sees, dlse, probabilities, kept, keep, share)

    def _bounds(self, query, key, value, dout, out, lse, sees, dlse, probabilities, kept, keep, share) -> None:
        scale = abs(self.scale)
        out_scale = kept @ value.abs()
        delta_scale = (dout.abs() * out_scale).sum(dim=-1, keepdim=True)
        score_scale = probabilities * ((dout.abs() @ value.abs().T) * keep + delta_scale + dlse.abs())
        delta_change = probabilities * (dout.abs() * out.abs()).sum(dim=-1, keepdim=True)
        self._grow("scale of out", out_scale)
        self._grow("scale of lse", 1.0 + torch.where(sees, lse, 0.0).abs())
        self._grow("scale of dquery", scale * (score_scale @ key.abs()))
        self._grow("rounding of dquery", scale * (delta_change @ key.abs()))
        self.sums["scale of dkey"] += scale * (score_scale.T @ query.abs())
        self.sums["rounding of dkey"] += scale * (delta_change.T @ query.abs())
        self.sums["scale of dvalue"] += kept.T @ dout.abs()
        if share is not None:
            self.totals["scale of dsink"] = self.totals["scale of dsink"] + (share * (dlse.abs() + delta_scale)).sum()
            squares = ((share * dout * out) ** 2).sum()
            self.totals["spread of dsink"] = (self.totals["spread of dsink"] ** 2 + squares).sqrt()

    def _grow(self, name: str, values: torch.Tensor) -> None:
        if values.numel():
            self.largest[name] = torch.maximum(self.largest[name], values.amax())

    @property
    def bounds(self) -> Tensors:
        return self.largest | self.sums | (self.totals if self.sink is not None else {})


def _keep_rows(problem: Problem, b: int, head: int) -> Callable[[slice, torch.device], torch.Tensor | float]:
    if problem.keep is None:
        return lambda span, device: 1.0
    keep = torch.from_numpy(problem.keep[b, head])
    return lambda span, device: keep[span].to(device)
