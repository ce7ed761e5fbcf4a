"""Rotary positions of packed documents: models that would give a document other positions than alone are refused."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ConfigError, UnsupportedConfigError

DYNAMIC = ("dynamic", "dynamic_ntk")
# Kinds that the code of PaddleNLP reads, by model type and by key of config.json. Others are ignored there in silence.
READ = {
    ("llama", "rope_scaling"): ("llama3",),
    ("llama", "rope_scaling_type"): ("linear", "ntk", "dynamic_ntk"),
    ("deepseek_v2", "rope_scaling"): ("linear", "dynamic", "yarn"),
    ("deepseek_v3", "rope_scaling"): ("linear", "dynamic", "yarn"),
}


def check_positions(config: Any, length: int, length_key: str) -> list[str]:
    """Notes on the positions of documents with up to `length` tokens. config: of the model.

    Linear, NTK, Llama-3 and YaRN scaling have fixed frequencies, so a document has the same positions in every pack.
    Beyond max_position_embeddings, dynamic NTK scaling takes its frequencies from the length of the sequence, which
    for a document in a pack is the length of the pack.

    Raises ConfigError for dynamic scaling of longer packs and for rotary tables that exceed the memory of the machine,
    UnsupportedConfigError for a kind of scaling that PaddleNLP ignores for this model, LongRoPE among them.
    """
    trained = getattr(config, "max_position_embeddings", None)
    for key, kind in _scalings(config):
        if kind not in READ.get((config.model_type, key), ()):
            raise UnsupportedConfigError(
                f"{key} = {kind!r} in the model's config.json: PaddleNLP ignores it for {config.model_type}, so the "
                "model would be trained with other positions than it was made with"
            )
        if kind in DYNAMIC and length > trained:
            raise ConfigError(
                f"{length_key} = {length} is above max_position_embeddings = {trained} of the model, whose dynamic "
                f"scaling of positions depends on the length of the pack: set {length_key} to at most {trained}"
            )
    if trained is None or length <= trained * _factor(config):
        return []
    size, memory = _table_bytes(config, length), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise ConfigError(
            f"{length_key} = {length} is above max_position_embeddings = {trained} of the model: the extended rotary "
            f"tables would take {size / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f} GiB; reduce "
            f"{length_key}"
        )
    return [
        f"{length_key} = {length} is above max_position_embeddings = {trained}: the rotary table is extended, and the "
        "model has not seen the positions at the end of longer documents"
    ]


def _table_bytes(config: Any, length: int) -> int:
    """Bytes of the tables that `extend_rotary_tables` makes: float32 cosines and sines in every layer of Llama."""
    if config.model_type != "llama":
        return 0
    return 2 * 4 * length * (config.hidden_size // config.num_attention_heads) * config.num_hidden_layers


def _scalings(config: Any) -> list[tuple[str, str]]:
    """(key, kind) of every scaling in config.json."""
    scaling = getattr(config, "rope_scaling", None) or {}
    found = [
        ("rope_scaling", scaling.get("rope_type", scaling.get("type"))),
        ("rope_scaling_type", getattr(config, "rope_scaling_type", None)),
    ]
    return [(key, kind) for key, kind in found if kind not in (None, "default")]


def _factor(config: Any) -> float:
    """How many times max_position_embeddings a table with linear or NTK scaling holds."""
    return max(getattr(config, "rope_scaling_factor", 1.0) or 1.0, 1.0)


def extend_rotary_tables(model: Any, length: int) -> None:
    """Give every rotary table at least `length` rows.

    Llama's never grow by themselves, and positions beyond their end are read from foreign memory. Those of Qwen2 and
    Mistral grow when they are used.
    """
    from paddlenlp.transformers.llama.modeling import LlamaRotaryEmbedding

    for layer in model.sublayers():
        if isinstance(layer, LlamaRotaryEmbedding) and layer.max_seq_len_cached < length:
            layer._set_cos_sin_cache(length)
