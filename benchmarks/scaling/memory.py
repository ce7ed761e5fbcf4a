"""Memory of one rank in a training step, by formula. All results are bytes.

Weights, gradients and optimizer states follow docs/training/distributed.md. `activations` is what PaddleNLP's Llama
holds between the passes when its operations are not fused, as on a CPU; `benchmarks.scaling.measure_memory` compares it
with Paddle's allocator.
"""

from __future__ import annotations

from dataclasses import dataclass

from .models import Model

FLOAT32 = 4


@dataclass(frozen=True)
class Precision:
    """Bytes for each trained parameter, and for each element of an activation."""

    weights: int
    gradients: int
    optimizer: int
    activations: int


SINGLE = Precision(4, 4, 8, 4)
MIXED = Precision(2, 2, 12, 2)  # bf16 with fp16_opt_level "O2"


@dataclass(frozen=True)
class Division:
    """How many ranks divide the heads, the rows of a sequence, and the optimizer states (stage 1)."""

    tensor: int = 1
    context: int = 1
    sharding: int = 1


def states(model: Model, precision: Precision, division: Division = Division()) -> dict[str, int]:
    """Return bytes of weights, gradients and optimizer states with AdamW."""
    parameters = model.parameters // division.tensor
    return {
        "weights": precision.weights * parameters,
        "gradients": precision.gradients * parameters,
        "optimizer": precision.optimizer * parameters // division.sharding,
    }


def layer_elements(model: Model) -> int:
    """Return the elements per row that one layer holds for its backward pass: ten vectors of the hidden size, three of
    the feed-forward size, four of keys, the rotary tables, lse and two norms."""
    keys = model.heads_kv * model.head_dim
    return 10 * model.hidden + 3 * model.feed_forward + 4 * keys + 2 * model.head_dim + model.heads + 2


def activations(model: Model, rows: int, *, recompute: bool, itemsize: int = FLOAT32, tensor: int = 1) -> int:
    """Return bytes held between the passes: layers, the ends of the model, logits and their log-probabilities.

    With `recompute` a layer holds its input. `tensor` ranks divide the layers (sequence parallel). Logits are float32
    and whole on every rank.
    """
    layer = model.hidden if recompute else layer_elements(model)
    inside = (model.layers * layer + 3 * model.hidden) // tensor
    return rows * (inside * itemsize + (2 * model.vocabulary + 1) * FLOAT32)


def recomputed_layer(model: Model, rows: int, *, itemsize: int = FLOAT32, tensor: int = 1) -> int:
    """Return bytes of the one layer that is computed again at a time, an upper bound of what `recompute` adds."""
    return rows * layer_elements(model) // tensor * itemsize


def cpu_workspace(model: Model, rows: int) -> int:
    """Return bytes of the backward workspace on a CPU without that of each thread: query, dout and dquery as float32
    panels, lse and delta."""
    return rows * model.heads * (3 * model.head_dim + 2) * FLOAT32


def attention(model: Model, rows: int, division: Division, *, itemsize: int) -> int:
    """Return bytes of one backward call on a GPU: float32 sums of dquery, lse and delta, as in
    csrc/cuda/backward/backward_plan.h for enough heads to fill the GPU, and, if context parallel, the buffers of
    docs/many_devices.md."""
    heads, heads_kv = model.heads // division.tensor, max(1, model.heads_kv // division.tensor)
    workspace = rows * heads * (model.head_dim + 2) * FLOAT32
    if division.context == 1:
        return workspace
    keys = 2 * heads_kv * model.head_dim
    sums = rows * (heads * model.head_dim + keys) * FLOAT32
    pieces = rows * (2 * keys * itemsize + 3 * keys * FLOAT32)
    return workspace + sums + pieces


def rank_bytes(model: Model, seqlen: int, division: Division, precision: Precision = MIXED) -> dict[str, int]:
    """Return bytes of one rank with recompute and equal shares of one sequence of `seqlen` rows, and their total."""
    rows = seqlen // division.context
    item = precision.activations
    parts = states(model, precision, division)
    held = activations(model, rows, recompute=True, itemsize=item, tensor=division.tensor)
    parts["activations"] = held + recomputed_layer(model, rows, itemsize=item, tensor=division.tensor)
    parts["attention"] = attention(model, rows, division, itemsize=item)
    return parts | {"total": sum(parts.values())}
