"""PaddleNLP's model families that train on column masks. Imports neither Paddle nor PaddleNLP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Route(Enum):
    """Where column indices enter a model, and what has to change there."""

    LAYER_ATTRIBUTE = auto()
    """The model takes indices, but with use_flash_attention=False the `attn_func` of its layers ignores them."""
    CAUSAL_LM = auto()
    """The base model takes indices (its own family has the route above); the model around it does not."""
    MODULE_FUNCTION = auto()
    """The model takes none; its layers call the module's `scaled_dot_product_attention`."""
    LAYER_FORWARD = auto()
    """The model takes none; its attention layer computes attention itself, as Mistral's does."""


@dataclass(frozen=True)
class Family:
    """One model family: the names of its module and classes in `paddlenlp.transformers`.

    Class names are formed with `name` where no other is given. has_reward_model: whether a reward model of the family
    can be trained.
    """

    package: str
    name: str
    route: Route
    base: str = ""
    pretrained: str = ""
    has_reward_model: bool = True

    @property
    def module(self) -> str:
        return f"paddlenlp.transformers.{self.package}.modeling"

    @property
    def causal_lm(self) -> str:
        return f"{self.name}ForCausalLM"

    @property
    def base_model(self) -> str:
        """The class without a head, an attribute of the module."""
        return self.base or f"{self.name}Model"

    @property
    def pretrained_model(self) -> str:
        """The class that loads and saves weights, an attribute of the module."""
        return self.pretrained or f"{self.name}PretrainedModel"

    @property
    def attention_layer(self) -> str:
        return f"{self.name}Attention"


FAMILIES = (
    Family("llama", "Llama", Route.LAYER_ATTRIBUTE),
    Family("qwen2", "Qwen2", Route.LAYER_ATTRIBUTE),
    Family("qwen2_moe", "Qwen2Moe", Route.LAYER_ATTRIBUTE),
    Family("deepseek_v2", "DeepseekV2", Route.LAYER_ATTRIBUTE),
    Family("deepseek_v3", "DeepseekV3", Route.CAUSAL_LM, base="DeepseekV2Model"),
    Family("mistral", "Mistral", Route.LAYER_FORWARD, pretrained="MistralPreTrainedModel"),
    Family("mixtral", "Mixtral", Route.MODULE_FUNCTION, has_reward_model=False),  # does not run on Paddle 3.3
    Family("gemma", "Gemma", Route.MODULE_FUNCTION),
)
