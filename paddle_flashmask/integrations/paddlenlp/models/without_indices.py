"""Column indices for PaddleNLP's models whose forward takes none: Mistral, Mixtral, Gemma and DeepSeek-V3.

Their forward gets the parameter `attn_mask_startend_row_indices` that the other models have. The columns then travel
in place of the dense mask, which every layer passes on as an argument, through recompute as well; there is no other
state. Inside the model the dtype distinguishes them from a dense mask, which is floating there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import paddle

from paddle_flashmask import functional

from .attention import as_columns, attention_over, columns_and_causal, refuse_what_would_lose_the_mask
from .causal_masks import exact
from .replacements import Replacements, unknown_version
from .table import Family, Route

INDICES = "attn_mask_startend_row_indices"
_MARK = "is_flashmask_columns"


MISTRAL_ATTENTION_PARAMETERS = [
    "self",
    "hidden_states",
    "attention_mask",
    "position_ids",
    "past_key_value",
    "output_attentions",
    "use_cache",
]


def patch(module: ModuleType, family: Family, replacements: Replacements) -> None:
    """Let the models of a family take indices. module: the family's.

    Raises NotImplementedError for a version with another layout of the model.
    """
    base = _attribute(module, family.base_model)
    _give_indices(_attribute(module, family.causal_lm), replacements)
    if family.route is Route.CAUSAL_LM:
        replacements.put(base, "forward", _columns_from_mask_to_indices(base.forward))
        return
    _give_indices(base, replacements)
    prepare = _attribute(base, "_prepare_decoder_attention_mask")
    replacements.put(base, "_prepare_decoder_attention_mask", _let_columns_pass(prepare))
    if hasattr(module, "is_casual_mask"):
        replacements.put(module, "is_casual_mask", _columns_are_not_causal(exact(module.is_casual_mask)))
    if family.route is Route.MODULE_FUNCTION:
        attention = _attribute(module, "scaled_dot_product_attention")
        if "attention_mask" not in inspect.signature(attention).parameters:
            raise unknown_version(f"{module.__name__}.scaled_dot_product_attention has no parameter attention_mask")
        replacements.put(module, "scaled_dot_product_attention", attention_over(attention, _columns_in_place_of_mask))
    else:
        layer = _attribute(module, family.attention_layer)
        parameters = list(inspect.signature(layer.forward).parameters)
        if parameters != MISTRAL_ATTENTION_PARAMETERS:
            raise unknown_version(f"{layer.__name__}.forward has the parameters {parameters}")
        replacements.put(layer, "forward", _mistral_attention_over(layer.forward, module.rotate_half))


def _attribute(owner: Any, name: str) -> Any:
    if name not in vars(owner):
        raise unknown_version(f"{owner.__name__} lacks {name}")
    return vars(owner)[name]


def _give_indices(model_class: type, replacements: Replacements) -> None:
    """Add `attn_mask_startend_row_indices` to model_class.forward, as its last keyword argument."""
    original = _attribute(model_class, "forward")
    signature = inspect.signature(original)
    parameters = signature.parameters
    missing = {"attention_mask", "position_ids", "past_key_values", "output_attentions"} - parameters.keys()
    if missing or INDICES in parameters:
        raise unknown_version(f"{model_class.__name__}.forward has the parameters {list(parameters)}")

    @functools.wraps(original)
    def forward(*args, **kwargs):
        indices = kwargs.pop(INDICES, None)
        if indices is None:
            return original(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        _refuse(bound.arguments)
        bound.arguments["attention_mask"] = _marked(indices)
        return original(*bound.args, **bound.kwargs)

    ours = inspect.Parameter(INDICES, inspect.Parameter.KEYWORD_ONLY, default=None)
    kinds = [p for p in parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    rest = [p for p in parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    forward.__signature__ = signature.replace(parameters=[*kinds, ours, *rest])
    replacements.put(model_class, "forward", forward)


def _refuse(given: dict[str, Any]) -> None:
    from paddlenlp.utils.tools import get_env_device

    config = given["self"].config
    refuse_what_would_lose_the_mask(config, None, get_env_device())
    if getattr(config, "sep_parallel_degree", 1) > 1:
        raise NotImplementedError(
            f"sep_parallel_degree = {config.sep_parallel_degree} with {INDICES} in {type(given['self']).__name__}: "
            "PaddleNLP replaces the positions by its own, which do not restart. Set it to 1"
        )
    if given.get("attention_mask") is not None:
        raise ValueError(f"attention_mask and {INDICES} were both given; give one of them")
    if given.get("past_key_values") is not None:
        raise ValueError(
            f"past_key_values with {INDICES}: the columns belong to a whole sequence, not to a decoding step"
        )
    asked = given.get("output_attentions")
    if config.output_attentions if asked is None else asked:
        raise NotImplementedError(f"output_attentions=True with {INDICES}: the operator computes no attention weights")


def _marked(indices: paddle.Tensor) -> paddle.Tensor:
    columns = as_columns(indices)
    if columns.dtype != paddle.int32:
        raise TypeError(f"{INDICES} must be int32, got {columns.dtype}")
    columns = columns.detach()  # a new tensor object, to mark without changing the caller's
    setattr(columns, _MARK, True)
    return columns


def _is_marked(mask: Any) -> bool:
    return getattr(mask, _MARK, False)


def _let_columns_pass(prepare: Any) -> Any:
    """Wrap `prepare`, a method or staticmethod that makes the mask added to the scores from `attention_mask`, so that
    columns pass unchanged."""
    is_static = isinstance(prepare, staticmethod)
    function = prepare.__func__ if is_static else prepare

    @functools.wraps(function)
    def columns_or_dense(*args, **kwargs):
        mask = inspect.signature(function).bind(*args, **kwargs).arguments["attention_mask"]
        return mask if _is_marked(mask) else function(*args, **kwargs)

    return staticmethod(columns_or_dense) if is_static else columns_or_dense


def _columns_are_not_causal(is_causal_mask: Callable) -> Callable:
    """Wrap the function whose True makes a model with use_flash_attention drop its mask."""

    @functools.wraps(is_causal_mask)
    def is_causal(attention_mask):
        return not _is_marked(attention_mask) and is_causal_mask(attention_mask)

    return is_causal


def _columns_from_mask_to_indices(original: Callable) -> Callable:
    @functools.wraps(original)
    def forward(self, *args, **kwargs):
        if _is_marked(kwargs.get("attention_mask")):
            kwargs[INDICES] = kwargs.pop("attention_mask")
        return original(self, *args, **kwargs)

    return forward


def _columns_in_place_of_mask(given: dict[str, Any]) -> paddle.Tensor | None:
    mask = given["attention_mask"]
    return mask if mask is not None and mask.dtype == paddle.int32 else None


def _mistral_attention_over(original: Callable, rotate_half: Callable) -> Callable:
    @functools.wraps(original)
    def forward(
        self,
        hidden_states,
        attention_mask=None,
        position_ids=None,
        past_key_value=None,
        output_attentions=False,
        use_cache=False,
    ):
        if _columns_in_place_of_mask({"attention_mask": attention_mask}) is None:
            return original(
                self, hidden_states, attention_mask, position_ids, past_key_value, output_attentions, use_cache
            )
        batch, length, _ = hidden_states.shape
        query = self.q_proj(hidden_states).reshape([batch, length, self.num_heads, self.head_dim])
        key = self.k_proj(hidden_states).reshape([batch, length, self.num_key_value_heads, self.head_dim])
        value = self.v_proj(hidden_states).reshape([batch, length, self.num_key_value_heads, self.head_dim])
        cos, sin = (table[position_ids].unsqueeze(2) for table in self.rotary_emb(value, seq_len=length))
        query, key = (x * cos + rotate_half(x) * sin for x in (query, key))
        columns, causal = columns_and_causal(attention_mask, self.config)
        out = functional.flashmask_attention(query, key, value, columns, causal=causal)
        out = self.o_proj(out.reshape([batch, length, self.num_heads * self.head_dim]))
        cache = (key.transpose([0, 2, 1, 3]), value.transpose([0, 2, 1, 3])) if use_cache else None
        return out, None, cache

    return forward
