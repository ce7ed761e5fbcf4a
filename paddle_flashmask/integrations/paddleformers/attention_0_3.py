"""The operator behind the signature of the attention registry of PaddleFormers 0.3.1, which ERNIEKit 1.3.0 pins."""

from __future__ import annotations

from typing import Any

import paddle

from paddle_flashmask import functional

from .attention import refuse_what_would_lose_the_mask, under_dense_mask


def paddle_flashmask_attention_0_3(
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
    **others: Any,
) -> tuple[paddle.Tensor, None]:
    """Attention with the signature of PaddleFormers 0.3.1's registry and the causal rule of its `flashmask`.

    Without a sink, attention is always causal, bottom-right aligned. With one it follows `is_causal`, which is False by
    default, and n = 1 is causal. Unlike 0.3.1's `flashmask`, which ignores `dropout` and `scaling` without a sink, this
    entry applies both, as 0.3.1's `eager` does.

    Args:
        module: the calling layer, for its `config` and training mode.
        query: [B, Sq, Hq, D]. key: [B, Sk, Hkv, D]. value: [B, Sk, Hkv, Dv].
        attention_mask: [B or 1, Hq or 1, Sq or 1, >= Sk], floating, added to the scores by 0.3.1's eager attention.
        attn_mask_startend_row_indices: int32 [B, Hm, S] or [B, Hm, S, n]; Sq = Sk = S. Causal attention takes n = 1 or
            2, other attention n = 2 or 4.
        dropout: probability, applied while the layer is in training mode.
        sink: [Hq], a logit per head that joins its softmax denominator.
        scaling: factor of the scores; 1 / sqrt(D) by default.

    Returns ([B, Sq, Hq * Dv], None); there are no attention weights.

    Raises NotImplementedError or ValueError for arguments that would lose a part of the mask, TypeError for a dense
    mask that is not floating.
    """
    columns = attn_mask_startend_row_indices
    refuse_what_would_lose_the_mask(getattr(module, "config", None), columns, others)
    if attention_mask is not None:
        if columns is not None:
            raise ValueError("attention_mask and attn_mask_startend_row_indices were both given; give one of them")
        sizes = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
        return under_dense_mask(module, query, key, value, attention_mask, dropout, sink, scaling, sizes)
    if columns is not None:
        columns = columns.unsqueeze(-1) if columns.ndim == 3 else columns
        if query.shape[1] != key.shape[1]:
            raise NotImplementedError(
                f"attn_mask_startend_row_indices with {query.shape[1]} queries and {key.shape[1]} keys: they hold rows "
                "of a whole sequence. Decode with a cache without them"
            )
    causal = sink is None or bool(is_causal) or (columns is not None and columns.shape[-1] == 1)
    if causal and columns is not None and columns.shape[-1] == 4:
        raise ValueError("attn_mask_startend_row_indices with n = 4 are not causal; PaddleFormers 0.3.1 is, here")
    out = functional.flashmask_attention(
        query,
        key,
        value,
        startend_row_indices=columns,
        causal=causal,
        dropout=dropout,
        training=module.training,
        softmax_scale=scaling,
        learnable_sink=sink,
    )
    return out.reshape([0, 0, -1]), None
