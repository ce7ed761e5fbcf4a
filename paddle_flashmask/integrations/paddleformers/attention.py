"""The operator behind the signature of PaddleFormers' attention registry."""

from __future__ import annotations

from typing import Any

import paddle

from paddle_flashmask import functional

# Arguments of other attention functions that change which keys a query sees, or their weights.
CHANGES_ATTENTION = (
    "alibi",
    "attention_bias",
    "block_mask",
    "cu_seq_lens_k",
    "cu_seq_lens_q",
    "cu_seqlens",
    "cu_seqlens_k",
    "cu_seqlens_q",
    "head_mask",
    "position_bias",
    "s_aux",
    "softcap",
)
# Sizes of the kinds of parallelism that give a layer only a part of the sequence, by the names of 1.2 and of 0.3.1.
SEQUENCE_SPLITS = (
    "context_parallel_size",
    "sep_parallel_size",
    "context_parallel_degree",
    "sep_parallel_degree",
)
HEAD_SPLITS = ("tensor_model_parallel_size", "tensor_parallel_degree")


def paddle_flashmask_attention(
    module: paddle.nn.Layer,
    query: paddle.Tensor,
    key: paddle.Tensor,
    value: paddle.Tensor,
    attention_mask: paddle.Tensor | None = None,
    attn_mask_startend_row_indices: paddle.Tensor | None = None,
    dropout: float = 0.0,
    sink: paddle.Tensor | None = None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[paddle.Tensor, None]:
    """Attention with the signature of PaddleFormers 1.2's registry.

    Calls with column indices, or with no mask at all, go to the operator. A dense mask goes to PaddleFormers' own eager
    attention, which adds it to the scores.

    Args:
        module: the calling layer. Its `config`, `is_causal`, `sliding_window` and `layer_idx` are used if it has them.
        query: [B, Hq, Sq, D]. key: [B, Hkv, Sk, D]. value: [B, Hkv, Sk, Dv].
        attention_mask: [B or 1, Hq or 1, Sq or 1, >= Sk], floating, added to the scores.
        attn_mask_startend_row_indices: int32 [B, Hm, S] or [B, Hm, S, n]; Sq = Sk = S. n = 1 is causal, n = 4 is
            not. n = 2 follows `is_causal`, else `flash_mask_causal` of the model config, else `is_causal` of the
            layer, else it is causal.
        dropout: probability, applied while the layer is in training mode.
        sink: [Hq], a logit per head that joins its softmax denominator.
        scaling: factor of the scores; 1 / sqrt(D) by default.
        is_causal: by default that of the layer, else True. Causal is bottom-right aligned, as decoding with a cache
            needs it.
        sliding_window: query i sees at most the last `sliding_window` keys up to its own, in layers that are not full
            attention in the config. By default `sliding_window` of the layer.

    Returns ([B, Sq, Hq * Dv], None); there are no attention weights.

    Raises NotImplementedError or ValueError for arguments that would lose a part of the mask, TypeError for a dense
    mask that is not floating.
    """
    config = getattr(module, "config", None)
    indices = attn_mask_startend_row_indices
    refuse_what_would_lose_the_mask(config, indices, others)
    if attention_mask is not None:
        if indices is not None:
            raise ValueError("attention_mask and attn_mask_startend_row_indices were both given; give one of them")
        sizes = (*query.shape[:3], key.shape[2])
        return under_dense_mask(module, query, key, value, attention_mask, dropout, sink, scaling, sizes)
    columns, causal = _columns(module, config, indices, is_causal)
    if columns is not None and query.shape[2] != key.shape[2]:
        raise NotImplementedError(
            f"attn_mask_startend_row_indices with {query.shape[2]} queries and {key.shape[2]} keys: they hold rows of "
            "a whole sequence. Decode with a cache without them"
        )
    window = _window(module, config, sliding_window)
    out = functional.flashmask_attention(
        *(states.transpose([0, 2, 1, 3]) for states in (query, key, value)),
        startend_row_indices=columns,
        causal=causal,
        window_size=None if window is None else (window - 1, -1),
        dropout=dropout,
        training=getattr(module, "training", True),
        softmax_scale=scaling,
        learnable_sink=sink,
    )
    return out.reshape([0, 0, -1]), None


def refuse_what_would_lose_the_mask(config: Any, indices: paddle.Tensor | None, others: dict[str, Any]) -> None:
    for name in CHANGES_ATTENTION:
        if others.get(name) is not None:
            raise NotImplementedError(f"the attention implementation paddle_flashmask does not support {name}")
    if getattr(config, "alibi", False):
        raise NotImplementedError("alibi is not supported by the attention implementation paddle_flashmask")
    for name in SEQUENCE_SPLITS:
        size = getattr(config, name, 1) or 1
        if size > 1:
            raise NotImplementedError(
                f"{name} = {size}: a layer would see only a part of the sequence, and masks hold rows of the whole. "
                f"Set {name} to 1"
            )
    for name in HEAD_SPLITS:
        ranks = getattr(config, name, 1) or 1
        if indices is not None and indices.ndim > 1 and indices.shape[1] > 1 and ranks > 1:
            raise NotImplementedError(
                f"attn_mask_startend_row_indices with {indices.shape[1]} heads and {name} = {ranks}: "
                "it is unknown which of them belong to this rank's heads. Give them one head"
            )


def _columns(
    module: paddle.nn.Layer, config: Any, indices: paddle.Tensor | None, is_causal: bool | None
) -> tuple[paddle.Tensor | None, bool]:
    """(indices as [B, Hm, S, n], whether attention is causal)."""
    layer_is_causal = getattr(module, "is_causal", True)
    if indices is None:
        return None, layer_is_causal if is_causal is None else is_causal
    if indices.ndim == 3:
        indices = indices.unsqueeze(-1)
    if indices.ndim != 4 or indices.shape[-1] not in (1, 2, 4):
        raise ValueError(
            "attn_mask_startend_row_indices must be [B, Hm, S] or [B, Hm, S, n] with n in 1, 2, 4; "
            f"got shape {list(indices.shape)}"
        )
    bounds = indices.shape[-1]
    if bounds == 2:
        by_config = getattr(config, "flash_mask_causal", layer_is_causal)
        return indices, by_config if is_causal is None else is_causal
    if bounds == 1 and not (layer_is_causal if is_causal is None else is_causal):
        raise ValueError(
            "attn_mask_startend_row_indices with n = 1 are causal, but is_causal is False; give n = 2 or 4"
        )
    if bounds == 4 and is_causal:
        raise ValueError("attn_mask_startend_row_indices with n = 4 are not causal, but is_causal is True")
    return indices, bounds == 1


def _window(module: paddle.nn.Layer, config: Any, sliding_window: int | None) -> int | None:
    """Number of keys that a query of this layer sees, its own included; None for all."""
    window = getattr(module, "sliding_window", None) if sliding_window is None else sliding_window
    if window is None:
        return None
    # Some models pass the window of their config to layers of both types.
    layer_types, layer = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    if layer_types and layer is not None and layer_types[layer] != "sliding_attention":
        return None
    if window < 1:
        raise ValueError(f"sliding_window must be at least 1; got {window}")
    return window


def under_dense_mask(
    module: paddle.nn.Layer,
    query: paddle.Tensor,
    key: paddle.Tensor,
    value: paddle.Tensor,
    mask: paddle.Tensor,
    dropout: float,
    sink: paddle.Tensor | None,
    scaling: float | None,
    sizes: tuple[int, int, int, int],
) -> tuple[paddle.Tensor, None]:
    """PaddleFormers' own eager attention, in the layout of its version. `sizes` are (B, Hq, Sq, Sk)."""
    batch, heads, rows, keys = sizes
    if not mask.is_floating_point():
        raise TypeError(f"attention_mask must be floating, to be added to the scores; got {mask.dtype}")
    fits = mask.ndim == 4 and all(mask.shape[i] in (1, n) for i, n in enumerate((batch, heads, rows)))
    if not fits or mask.shape[3] < keys:
        raise ValueError(
            f"attention_mask must be [{batch} or 1, {heads} or 1, {rows} or 1, at least {keys}]; got {list(mask.shape)}"
        )
    from paddleformers.nn.attention.eager_attention import eager_attention_forward

    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    out, _ = eager_attention_forward(
        module, query, key, value, attention_mask=mask, dropout=dropout, sink=sink, scaling=scaling
    )
    return out, None
