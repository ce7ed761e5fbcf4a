"""The operator behind the signatures of PaddleNLP's attention functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import paddle
import paddle.nn.functional as F

from ..context_parallel import sequences

SUPPORTED_DEVICES = ("cpu", "gpu")


def fusion_flash_attention_over(original: Callable) -> Callable:
    """The replacement of `paddlenlp.transformers.llama.fusion_ops.fusion_flash_attention`.

    Column indices go to the operator. A dense mask goes to Paddle's scaled_dot_product_attention without PaddleNLP's
    `is_causal=True`: the mask is causal already, and most back ends apply only one of the two. Everything else goes to
    the original.
    """
    from paddlenlp.transformers.refined_recompute import no_recompute
    from paddlenlp.utils.tools import get_env_device

    @functools.wraps(original)
    def fusion_flash_attention(
        query_states,
        config,
        key_states,
        value_states,
        attention_mask,
        output_attentions,
        alibi=None,
        attn_mask_startend_row_indices=None,
        sequence_parallel=False,
        reshard_layer=None,
        npu_is_casual=False,
        skip_recompute=False,
    ):
        indices = attn_mask_startend_row_indices
        if indices is not None:
            refuse_what_would_lose_the_mask(config, alibi, get_env_device())
            columns, causal = columns_and_causal(indices, config)
            out = no_recompute(
                sequences.attention_operator(),
                query_states,
                key_states,
                value_states,
                startend_row_indices=columns,
                causal=causal,
                enable=skip_recompute,
            )
        elif (
            attention_mask is not None
            and get_env_device() in SUPPORTED_DEVICES
            and _degree(config, "context_parallel_degree") <= 1
        ):
            if alibi is not None:
                batch, _, heads, _ = query_states.shape
                attention_mask = attention_mask.cast(alibi.dtype) + alibi.reshape([batch, heads, 1, -1])
            out = no_recompute(
                F.scaled_dot_product_attention,
                query_states,
                key_states,
                value_states,
                attn_mask=attention_mask,
                is_causal=False,
                enable=skip_recompute,
            )
        else:
            return original(
                query_states,
                config,
                key_states,
                value_states,
                attention_mask,
                output_attentions,
                alibi,
                indices,
                sequence_parallel,
                reshard_layer,
                npu_is_casual,
                skip_recompute=skip_recompute,
            )
        out = heads_last(out, config, sequence_parallel, reshard_layer)
        return (out, None) if output_attentions else out

    return fusion_flash_attention


class RoutedAttentionFunction:
    """Class attribute that makes a model with `use_flash_attention=False` apply column indices.

    PaddleNLP's attention layers keep their function in the instance attribute `attn_func`, and with
    `use_flash_attention=False` that function ignores the indices. As a data descriptor it takes precedence over the
    instance attribute, so layers built earlier are routed as well, and deleting it restores their own function.
    """

    def __get__(self, layer, owner=None):
        if layer is None:
            return self
        if "attn_func" not in layer.__dict__:
            raise AttributeError(f"{type(layer).__name__!r} object has no attribute 'attn_func'")
        return attention_over(layer.__dict__["attn_func"], _indices_unless_fused)

    def __set__(self, layer, value) -> None:
        layer.__dict__["attn_func"] = value

    def __delete__(self, layer) -> None:
        del layer.__dict__["attn_func"]


def _indices_unless_fused(given: dict[str, Any]) -> paddle.Tensor | None:
    """The indices, unless they reach fusion_flash_attention anyway.

    DeepSeek's go to the operator directly: for fusion_flash_attention it would scale its queries and pad its values,
    which the operator does not need.
    """
    if given["config"].use_flash_attention and "softmax_scale" not in given:
        return None
    return given["attn_mask_startend_row_indices"]


def attention_over(attention: Callable, indices_of: Callable[[dict[str, Any]], paddle.Tensor | None]) -> Callable:
    """Wrap the `scaled_dot_product_attention` of a PaddleNLP model: calls with column indices go to the operator.

    attention: the model's function. Parameters have the same names in all models, but no model has all of them.
    indices_of: returns the indices among the arguments; None leaves the call to `attention`.
    """
    signature = inspect.signature(attention)

    @functools.wraps(attention)  # recompute reads the signature
    def routed(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        indices = indices_of(given)
        if indices is None:
            return attention(*args, **kwargs)
        if given["output_attentions"]:
            raise NotImplementedError(
                "output_attentions=True with attn_mask_startend_row_indices: the operator computes no attention weights"
            )
        from paddlenlp.utils.tools import get_env_device

        config = given["config"]
        refuse_what_would_lose_the_mask(config, given.get("alibi"), get_env_device())
        columns, causal = columns_and_causal(indices, config)
        dropout, training = _dropout(given)
        out = sequences.attention_operator()(
            given["query_states"],
            given["key_states"],
            given["value_states"],
            columns,
            causal=causal,
            dropout=dropout,
            training=training,
            softmax_scale=given.get("softmax_scale"),
        )
        return heads_last(out, config, given["sequence_parallel"], given.get("reshard_layer"))

    return routed


def _dropout(given: dict[str, Any]) -> tuple[float, bool]:
    """(probability, whether it applies). Gemma passes both, Llama has none, the others have it in their config."""
    if "attn_dropout_prob" in given:
        return given["attn_dropout_prob"], given["trainer_mode"]
    if "training" in given:
        return given["config"].attention_dropout, given["training"]
    return 0.0, False


def as_columns(indices: paddle.Tensor) -> paddle.Tensor:
    """Indices [B, S] or [B, Hm, S] (n = 1) or [B, Hm, S, n] as [B, Hm, S, n]."""
    if indices.ndim == 2:
        indices = indices.unsqueeze(1)
    if indices.ndim == 3:
        indices = indices.unsqueeze(-1)
    if indices.ndim != 4 or indices.shape[-1] not in (1, 2, 4):
        raise ValueError(
            "attn_mask_startend_row_indices must be [B, S], [B, Hm, S] or [B, Hm, S, n] with n in 1, 2, 4; "
            f"got shape {list(indices.shape)}"
        )
    return indices


def columns_and_causal(indices: paddle.Tensor, config) -> tuple[paddle.Tensor, bool]:
    """Indices as [B, Hm, S, n] for the heads of this rank, and whether the mask is causal.

    One and two bounds are causal, as everywhere in PaddleNLP, unless the model config has
    `flash_mask_causal = False`; four bounds never are.
    """
    columns = _of_this_rank(as_columns(indices), config)
    return columns, is_causal(columns, config)


def is_causal(columns: paddle.Tensor, config) -> bool:
    """Whether a mask, [B, Hm, S, n], is causal; see `columns_and_causal`."""
    return columns.shape[-1] != 4 and getattr(config, "flash_mask_causal", True)


def _of_this_rank(columns: paddle.Tensor, config) -> paddle.Tensor:
    """Select the masks of this rank's query heads; with tensor parallelism every rank gets the masks of all heads."""
    heads = columns.shape[1]
    if heads == 1:
        return columns
    if _degree(config, "sep_parallel_degree") > 1:
        raise NotImplementedError(
            f"{heads} masks of heads in attn_mask_startend_row_indices with sep_parallel_degree = "
            f"{config.sep_parallel_degree}: give one mask for all heads"
        )
    degree = _degree(config, "tensor_parallel_degree")
    if heads % degree and degree % heads:
        raise ValueError(
            f"{heads} masks of heads in attn_mask_startend_row_indices cannot be divided over "
            f"tensor_parallel_degree = {degree}: one must divide the other"
        )
    first = config.tensor_parallel_rank * heads // degree if degree > 1 else 0
    return columns[:, first : first + max(heads // degree, 1)] if degree > 1 else columns


def _degree(config, name: str) -> int:
    return max(getattr(config, name, 1) or 1, 1)


def refuse_what_would_lose_the_mask(config, alibi, device: str) -> None:
    if alibi is not None or getattr(config, "alibi", False):
        raise NotImplementedError(
            "alibi and attn_mask_startend_row_indices cannot be used together: PaddleNLP drops alibi when it gets "
            "indices. Set alibi to false in the model config, or train without flash_mask"
        )
    if _degree(config, "context_parallel_degree") > 1:
        raise NotImplementedError(
            f"context_parallel_degree = {config.context_parallel_degree} with attn_mask_startend_row_indices: "
            "PaddleNLP's ring attention takes no mask, so packed documents would see each other. Set it to 1"
        )
    if device not in SUPPORTED_DEVICES:
        raise NotImplementedError(
            f"attn_mask_startend_row_indices on device {device!r}: PaddleNLP ignores them there; "
            f"supported: {', '.join(SUPPORTED_DEVICES)}"
        )


def heads_last(out: paddle.Tensor, config, sequence_parallel: bool, reshard_layer) -> paddle.Tensor:
    """[B, S, H, D] to [B, S, H * D], or [B * S, H * D] under sequence parallel."""
    if reshard_layer is not None:
        degree = config.sep_parallel_degree
        if degree < 2 or out.shape[1] % degree:
            raise ValueError(f"sequence length {out.shape[1]} is not a multiple of sep_parallel_degree = {degree} >= 2")
        out = reshard_layer(out, split_axis=1, concat_axis=2)
    batch, length, heads, head_dim = out.shape
    return out.reshape([batch * length, heads * head_dim] if sequence_parallel else [batch, length, heads * head_dim])
