"""Reward models: a PaddleNLP backbone with one score per answer.

The class and parameter names are those of PaddleNLP's llm/alignment/rm script, so either reads the other's weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle
from paddlenlp.transformers import (
    AutoConfig,
    LlamaModel,
    LlamaPretrainedModel,
    Qwen2Model,
    Qwen2PretrainedModel,
)

from .config import UnsupportedConfigError
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
        hidden = getattr(self, self.base_model_prefix)(
            input_ids=input_ids,
            position_ids=position_ids,
            attention_mask=attention_mask,
            attn_mask_startend_row_indices=attn_mask_startend_row_indices,
            return_dict=False,
        )
        hidden = hidden[0] if isinstance(hidden, (tuple, list)) else hidden
        return self.score_head(hidden.gather_nd(answer_places[:, :2])).squeeze(-1).astype("float32")


class LlamaModelForScore(_Score, LlamaPretrainedModel):
    backbone_class = LlamaModel


class Qwen2ModelForScore(_Score, Qwen2PretrainedModel):
    backbone_class = Qwen2Model


_CLASSES = {
    "LlamaForCausalLM": LlamaModelForScore,
    "LlamaModelForScore": LlamaModelForScore,
    "Qwen2ForCausalLM": Qwen2ModelForScore,
    "Qwen2ModelForScore": Qwen2ModelForScore,
}


def reward_model_class(config: Any) -> type:
    """The class for a model configuration, by its architecture. Raises UnsupportedConfigError for others."""
    name = config.architectures[0]
    if name not in _CLASSES:
        raise UnsupportedConfigError(f"no reward model on {name}; supported: {', '.join(_CLASSES)}")
    return _CLASSES[name]


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
