"""Models whose batches are shared out: the base models of PaddleNLP's families, between the embedding and the head."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import paddle
from paddle.distributed import fleet

from ..errors import UnsupportedConfigError
from ..models.attention import as_columns, is_causal
from ..models.replacements import Replacements
from ..models.table import FAMILIES
from ..models.without_indices import INDICES
from . import sequences

_DIVIDED = tuple(family for family in FAMILIES if family.name in ("Llama", "Qwen2"))


def check_model(config: Any) -> None:
    """Raise UnsupportedConfigError for a model that cannot share its batches out. config: of the model."""
    known = [family.name for family in _DIVIDED]
    if not any(config.architectures[0] in (f"{name}ForCausalLM", f"{name}ModelForScore") for name in known):
        raise UnsupportedConfigError(
            f"context parallelism is not supported in this release for {config.architectures[0]}, only for "
            f"{' and '.join(known)}"
        )


@contextlib.contextmanager
def divided_models(group: Any) -> Iterator[None]:
    """Let the models share their batches out to the processes of `group`."""
    replacements = Replacements()
    with contextlib.ExitStack() as stack:
        stack.enter_context(sequences.divided_over(group))
        _clip_by_one_copy()
        stack.callback(replacements.take_back)
        for family in _DIVIDED:
            module = importlib.import_module(family.module)
            base = getattr(module, family.base_model)
            replacements.put(base, "forward", _sharing(base.forward))
            for name, layer in list(vars(module).items()):
                if name.endswith("RotaryEmbedding") and "forward" in vars(layer):
                    replacements.put(layer, "forward", _with_all_positions(layer.forward))
        yield


def _clip_by_one_copy() -> None:
    """Let fleet add the norms of gradients up over the parts of a model alone.

    By default it does so over all processes but those of data parallelism. With tensor parallelism, the gradients of
    divided parameters would then count once for each process of the context parallel group.
    """
    fleet.fleet._user_defined_strategy.strategy.hybrid_configs.split_norm_comm = True


def _sharing(forward: Callable) -> Callable:
    """Wrap the `forward` of a base model: given column indices, it computes the rows of this process.

    Tokens and positions are those of whole sequences, [B, N]; the hidden states have S rows, [B, S, H]. Without column
    indices every process computes everything.
    """
    signature = inspect.signature(forward)

    @functools.wraps(forward)
    def sharing(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        if given.get(INDICES) is None:
            sequences.keep_whole()
            return forward(*args, **kwargs)
        columns = as_columns(given[INDICES])
        sequences.share(columns, is_causal(columns, given["self"].config))
        positions = given.get("position_ids")
        if positions is None:
            batch, seqlen = given["input_ids"].shape
            positions = paddle.arange(seqlen).expand([batch, seqlen])
        given["input_ids"], given["position_ids"] = sequences.own(given["input_ids"]), sequences.own(positions)
        return forward(*bound.args, **bound.kwargs)

    return sharing


def _with_all_positions(forward: Callable) -> Callable:
    """Wrap the `forward` of a rotary table, which returns as many rows as there are keys: here, as whole sequences."""

    @functools.wraps(forward)
    def with_all_positions(self, x, seq_len=None):
        return forward(self, x, seq_len=sequences.seqlen() or seq_len)

    return with_all_positions
