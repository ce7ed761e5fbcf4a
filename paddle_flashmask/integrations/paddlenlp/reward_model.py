"""Reward models: a PaddleNLP backbone with one score per answer.

The names of classes and parameters are those of PaddleNLP's llm/alignment/rm script, so each loads the other's weights.
"""

from __future__ import annotations

import functools
import importlib
import types
from pathlib import Path
from typing import Any

import paddle
from paddle.distributed.fleet.utils.sequence_parallel_utils import GatherOp
from paddlenlp.transformers import AutoConfig

from .adapter_files import ADAPTER_CONFIG
from .context_parallel import sequences
from .errors import UnsupportedConfigError
from .lora import load_with_adapter
from .models.table import FAMILIES, Family

SCORE_HEAD = "score_head.weight"


class _Score:
    """The backbone of a model family, as the attribute `base_model_prefix`, and a linear score head."""

    backbone_class: type
    # The weights of a language model include a vocabulary head; a new score head starts from random weights.
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
        if self.config.sequence_parallel:  # every rank has the rows [B * S / degree, H] of its own
            hidden = GatherOp.apply(hidden).reshape([*input_ids.shape, hidden.shape[-1]])
        if sequences.seqlen():
            scores = sequences.whole(self.score_head(hidden).squeeze(-1).astype("float32"))
            return scores.gather_nd(answer_places[:, :2])
        return self.score_head(hidden.gather_nd(answer_places[:, :2])).squeeze(-1).astype("float32")


@functools.cache
def _score_class(family: Family) -> type:
    """`LlamaModelForScore` for Llama, and so on."""
    module = importlib.import_module(family.module)
    bases = (_Score, getattr(module, family.pretrained_model))
    members = {"backbone_class": getattr(module, family.base_model), "__module__": __name__}
    return types.new_class(f"{family.name}ModelForScore", bases, exec_body=lambda names: names.update(members))


def reward_model_class(config: Any) -> type:
    """The class for a model configuration, by its architecture. Raises UnsupportedConfigError for others."""
    architecture = config.architectures[0]
    name = architecture.removesuffix("ForCausalLM").removesuffix("ModelForScore")
    scored = {family.name: family for family in FAMILIES if family.has_reward_model}
    if name not in scored:
        known = ", ".join(family.causal_lm for family in scored.values())
        raise UnsupportedConfigError(f"no reward model on {architecture}; supported: {known}")
    return _score_class(scored[name])


def load_reward_model(folder: str | Path) -> Any:
    """Load the reward model, or its LoRA adapter, that a run saved in `folder`, for scoring; see its `forward`."""
    if (Path(folder) / ADAPTER_CONFIG).is_file():
        model = load_with_adapter(folder, lambda config, _: reward_model_class(config))
        model.eval()
        return model
    config = AutoConfig.from_pretrained(str(folder))
    model = reward_model_class(config).from_pretrained(str(folder), config=config)
    model.eval()
    return model
