"""Reward models: a PaddleNLP backbone with one score per answer.

The class and parameter names are those of PaddleNLP's llm/alignment/rm script, so either reads the other's weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle
from paddlenlp.transformers import (
    AutoConfig,
    DeepseekV2Model,
    DeepseekV2PretrainedModel,
    DeepseekV3PretrainedModel,
    GemmaModel,
    GemmaPretrainedModel,
    LlamaModel,
    LlamaPretrainedModel,
    MistralModel,
    Qwen2Model,
    Qwen2MoeModel,
    Qwen2MoePretrainedModel,
    Qwen2PretrainedModel,
)
from paddlenlp.transformers.mistral.modeling import MistralPreTrainedModel

from .errors import UnsupportedConfigError
from .lora import ADAPTER_CONFIG, load_with_adapter

SCORE_HEAD = "score_head.weight"


class _Score:
    """A backbone under the name `base_model_prefix` and a linear score head, for one of PaddleNLP's model families."""

    backbone_class: type
    # The weights of a language model have a head for words; a new score head is drawn at random.
    _keys_to_ignore_on_load_unexpected = [r"self_attn.rotary_emb.inv_freq", r"lm_head.weight"]

    def __init__(self, config):
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.backbone_class(config))
        self.score_head = paddle.nn.Linear(config.hidden_size, 1, bias_attr=False)

    def forward(
        self,
        input_ids,
        position_ids=None,
        attention_mask=None,
        attn_mask_startend_row_indices=None,
        answer_places=None,
    ):
        """Scores, float32 [A], at answer_places, int64 [A, 2 or more]: (batch row, place of an answer's last token)."""
        mask = {"attention_mask": attention_mask}
        if attn_mask_startend_row_indices is not None:  # some backbones take them only while the operator is enabled
            mask = {"attn_mask_startend_row_indices": attn_mask_startend_row_indices}
        hidden = getattr(self, self.base_model_prefix)(
            input_ids=input_ids, position_ids=position_ids, return_dict=False, **mask
        )
        hidden = hidden[0] if isinstance(hidden, (tuple, list)) else hidden
        return self.score_head(hidden.gather_nd(answer_places[:, :2])).squeeze(-1).astype("float32")


class LlamaModelForScore(_Score, LlamaPretrainedModel):
    backbone_class = LlamaModel


class Qwen2ModelForScore(_Score, Qwen2PretrainedModel):
    backbone_class = Qwen2Model


class Qwen2MoeModelForScore(_Score, Qwen2MoePretrainedModel):
    backbone_class = Qwen2MoeModel


class DeepseekV2ModelForScore(_Score, DeepseekV2PretrainedModel):
    backbone_class = DeepseekV2Model


class DeepseekV3ModelForScore(_Score, DeepseekV3PretrainedModel):
    backbone_class = DeepseekV2Model  # as in DeepseekV3ForCausalLM


class MistralModelForScore(_Score, MistralPreTrainedModel):
    backbone_class = MistralModel


class GemmaModelForScore(_Score, GemmaPretrainedModel):
    backbone_class = GemmaModel


_CLASSES = {
    model_class.__name__.replace("ModelForScore", ""): model_class
    for model_class in (
        LlamaModelForScore,
        Qwen2ModelForScore,
        Qwen2MoeModelForScore,
        DeepseekV2ModelForScore,
        DeepseekV3ModelForScore,
        MistralModelForScore,
        GemmaModelForScore,
    )
}


def reward_model_class(config: Any) -> type:
    """The class for a model configuration, by its architecture. Raises UnsupportedConfigError for others."""
    name = config.architectures[0]
    family = name.removesuffix("ForCausalLM").removesuffix("ModelForScore")
    if family not in _CLASSES:
        known = ", ".join(f"{family}ForCausalLM" for family in _CLASSES)
        raise UnsupportedConfigError(f"no reward model on {name}; supported: {known}")
    return _CLASSES[family]


def load_reward_model(folder: str | Path) -> Any:
    """The reward model, or the LoRA adapter of one, that a run saved in `folder`, for scoring; see its `forward`."""
    if (Path(folder) / ADAPTER_CONFIG).is_file():
        model = load_with_adapter(folder, lambda config, _: reward_model_class(config))
        model.eval()
        return model
    config = AutoConfig.from_pretrained(str(folder))
    model = reward_model_class(config).from_pretrained(str(folder), config=config)
    model.eval()
    return model
