"""Time of one training step of a plan, predicted from counts and from the speeds of a machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import memory
from .counts import Counts
from .machines import NODE, Machine
from .models import Model

ITEM = 2  # bytes of bfloat16
_TRANSFERS = 4  # of a piece: keys in the forward pass, which runs twice, and in the backward pass; their gradients


@dataclass(frozen=True)
class Plan:
    """A way to divide one step: `tensor` ranks inside `context` ranks inside `data` groups with a sequence each.

    Weights are whole on each tensor rank, optimizer states divided by context * data (stage 1); every layer is
    recomputed in the backward pass, its attention included.
    """

    model: Model
    seqlen: int
    tensor: int
    context: int
    data: int

    @property
    def ranks(self) -> int:
        return self.tensor * self.context * self.data

    @property
    def division(self) -> memory.Division:
        return memory.Division(self.tensor, self.context, self.context * self.data)

    @property
    def bytes(self) -> int:
        """Memory of a rank."""
        return memory.rank_bytes(self.model, self.seqlen, self.division)["total"]


@dataclass(frozen=True)
class Step:
    """Predicted seconds of one step. `keys` is the traffic of context parallel, `gradients` that of stage 1.

    `overlapped` hides keys behind attention as far as they fit, `serial` does not. `ideal` is the arithmetic alone,
    shared out evenly. `bytes_keys` are those of the busier direction of the busiest rank's links.
    """

    products: float
    attention: float
    keys: float
    tensor: float
    gradients: float
    overlapped: float
    serial: float
    ideal: float
    bytes_keys: int

    @property
    def efficiency(self) -> float:
        """Ideal time over the overlapped time."""
        return self.ideal / self.overlapped

    @property
    def bound(self) -> str:
        """Largest part of the overlapped time: keys count where they take longer than the attention."""
        core = ("keys", self.keys) if self.keys > self.attention else ("attention", self.attention)
        parts = [("products", self.products), core, ("tensor", self.tensor), ("gradients", self.gradients)]
        return max(parts, key=lambda part: part[1])[0]


def predict(plan: Plan, counts: Counts, machine: Machine) -> Step:
    """Return the prediction for one mask head and batch row per sequence.

    Products: the forward pass twice (recompute) and twice that for the backward pass; logits are whole on every tensor
    rank. Attention: 4 and 10 FLOP per pair and element of a head. Tensor parallel: in each of the three passes, two
    gathers and two scatters of the rank's hidden rows per layer (sequence parallel), not overlapped. Stage 1: gradients
    are scattered and weights gathered once, not overlapped.
    """
    model = plan.model
    rows = plan.seqlen / plan.context
    products = 8 * rows * model.layers * model.layer_weights / plan.tensor + 6 * rows * model.hidden * model.vocabulary
    products /= machine.matmul

    per_pair = model.layers * model.heads / plan.tensor * model.head_dim
    seconds_per_pair = per_pair * (2 * 4 / machine.attention[0] + 10 / machine.attention[1])
    attention = counts.pairs * seconds_per_pair

    per_key = model.layers * 2 * max(1, model.heads_kv // plan.tensor) * model.head_dim * ITEM
    near, far = (counts.near, counts.far) if plan.tensor == 1 else (np.zeros_like(counts.all), counts.all)
    messages = _TRANSFERS * model.layers * counts.messages * machine.message
    keys = per_key * np.maximum(near / machine.near, far / machine.far) + messages

    tensor = _ring(3 * 4 * model.layers * rows * model.hidden * ITEM, plan.tensor, machine.near)
    group = plan.context * plan.data
    link = machine.near if plan.ranks <= NODE else machine.far
    gradients = _ring(2 * model.parameters / plan.tensor * ITEM, group, link)

    rest = products + tensor + gradients
    return Step(
        products,
        float(attention.max()),
        float(keys.max()),
        tensor,
        gradients,
        rest + float(np.maximum(attention, keys).max()),
        rest + float((attention + keys).max()),
        products + float(attention.mean()),
        int(per_key * (near + far).max()),
    )


def _ring(size: float, ranks: int, link: float) -> float:
    """Seconds in which a gather or a scatter of `size` bytes in all passes through one rank's link."""
    return size * (ranks - 1) / ranks / link
