"""Puts the operator under PaddleNLP's models and restores them exactly. Imports no PaddleNLP module by itself."""

from __future__ import annotations

import functools
import inspect
from types import ModuleType

from ..._import_hook import AfterImport
from .replacements import Replacements, unknown_version
from .table import FAMILIES, Family, Route

FUSION_OPS = "paddlenlp.transformers.llama.fusion_ops"
EXPERT_ROUTER = "paddlenlp.transformers.moe_gate"
# In 3.0.0b3 and 3.0.0b4. The replacement has exactly these.
FUSION_FLASH_ATTENTION_PARAMETERS = [
    "query_states",
    "config",
    "key_states",
    "value_states",
    "attention_mask",
    "output_attentions",
    "alibi",
    "attn_mask_startend_row_indices",
    "sequence_parallel",
    "reshard_layer",
    "npu_is_casual",
    "skip_recompute",
]


class PaddleNLPPatch:
    """Routes `fusion_flash_attention` (the flash path of every model that takes indices), the model families of the
    table, and the expert router. `install` changes modules that are imported and waits for the others."""

    def __init__(self) -> None:
        self._replacements = Replacements()
        self._hook = AfterImport(
            {
                FUSION_OPS: self._patch_fusion_ops,
                **{family.module: functools.partial(self._patch_family, family) for family in FAMILIES},
                EXPERT_ROUTER: self._patch_expert_router,
            }
        )

    def install(self) -> None:
        """Raises NotImplementedError for an unknown version, at once or when PaddleNLP is imported."""
        try:
            self._hook.start()
        except BaseException:
            self.uninstall()
            raise

    def uninstall(self) -> None:
        self._hook.stop()
        self._replacements.take_back()

    def _patch_fusion_ops(self, module: ModuleType) -> None:
        original = getattr(module, "fusion_flash_attention", None)
        parameters = list(inspect.signature(original).parameters) if original is not None else None
        if parameters != FUSION_FLASH_ATTENTION_PARAMETERS:
            raise unknown_version(f"{FUSION_OPS}.fusion_flash_attention has the parameters {parameters}")
        from .attention import fusion_flash_attention_over

        self._replacements.put(module, "fusion_flash_attention", fusion_flash_attention_over(original))

    def _patch_family(self, family: Family, module: ModuleType) -> None:
        if family.route is Route.LAYER_ATTRIBUTE:
            self._patch_layer_attribute(family, module)
        else:
            from . import without_indices

            without_indices.patch(module, family, self._replacements)

    def _patch_layer_attribute(self, family: Family, module: ModuleType) -> None:
        layer_class = getattr(module, family.attention_layer, None)
        function = getattr(module, "scaled_dot_product_attention", None)
        if layer_class is None or function is None:
            raise unknown_version(f"{module.__name__} lacks its attention layer or function")
        if "attn_mask_startend_row_indices" not in inspect.signature(function).parameters:
            return  # this version of the model takes no indices, so it cannot ignore them
        from .attention import RoutedAttentionFunction
        from .causal_masks import exact

        self._replacements.put(layer_class, "attn_func", RoutedAttentionFunction())
        if hasattr(module, "is_casual_mask"):
            self._replacements.put(module, "is_casual_mask", exact(module.is_casual_mask))

    def _patch_expert_router(self, module: ModuleType) -> None:
        from . import expert_router

        expert_router.patch(module, self._replacements)


PADDLENLP_PATCH = PaddleNLPPatch()
