"""PaddleFormers' DPO: correct columns for its layout of a pair, and training in one process.

PaddleFormers lays a pair out as [p1 .. pP-1, pP c1 .., pP r1 ..]: the last prompt token precedes each of the answers.
Its data set (1.2.0, `BaseDPODataSet._postprocess_sequence`) counts the first copy as a part of the prompt, so the
rejected answer sees it in addition to its own copy, unlike under the dense mask of the same data set. Here the columns
come from this package's share-question layout.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paddle_flashmask.packing import AnswerPack, PreferenceCollator
from paddle_flashmask.packing.answers import Question, assemble_questions


def dpo_columns(prompt_length: int, chosen_length: int, rejected_length: int) -> np.ndarray:
    """The row after the last one that sees each key, int32 [prompt_length - 1 + chosen_length + rejected_length].

    The lengths of the answers include their end-of-text token, as in `pack_preference`. Raises ValueError for a length
    below 1.
    """
    lengths = (prompt_length, chosen_length, rejected_length)
    if min(lengths) < 1:
        raise ValueError(f"a prompt and two answers need at least one token each; got lengths {lengths}")
    prompt, *answers = (np.zeros(n, dtype=np.int64) for n in lengths)
    return assemble_questions([Question(prompt, tuple(answers), repeat_last=True)]).key_ends


def with_correct_columns(sequence: Any) -> Any:
    """Recompute the columns of a `Sequence` of PaddleFormers' DPO data set; one with a dense mask is unchanged.

    The lengths come from `response_index`: (chosen start, chosen end = rejected start, rejected end), counted in
    tokens of the sequence or, with `use_filtered_label_loss`, in tokens of the answers.
    """
    if sequence is None or sequence.attn_mask_startend_row_indices is None:
        return sequence
    chosen_start, rejected_start, end = sequence.response_index
    chosen, rejected = rejected_start - chosen_start, end - rejected_start
    columns = dpo_columns(len(sequence.token_ids) - chosen - rejected + 1, chosen, rejected)
    return dataclasses.replace(sequence, attn_mask_startend_row_indices=columns.tolist())


def postprocess_over(original: Callable) -> Callable:
    """The replacement of `BaseDPODataSet._postprocess_sequence`."""

    @functools.wraps(original)
    def _postprocess_sequence(self, example):
        return with_correct_columns(original(self, example))

    return _postprocess_sequence


def wrap_ref_model_over(original: Callable) -> Callable:
    """The replacement of `DPOTrainer._wrap_ref_model`, which `evaluate` calls for the policy too.

    0.3.1 and 1.2.0 wrap both models for distributed runs even in a single process, where Paddle 3.3 raises.
    """

    @functools.wraps(original)
    def _wrap_ref_model(self, model):
        import paddle

        if model is None or getattr(self, "using_fleet_model", False) or paddle.distributed.get_world_size() > 1:
            return original(self, model)
        self.amp_dtype = "float16" if self.args.fp16 else "bfloat16"
        return paddle.amp.decorate(models=model, level=self.args.fp16_opt_level, dtype=self.amp_dtype)

    return _wrap_ref_model


class DPOBatches(PreferenceCollator):
    """`PreferenceCollator` with the keys that PaddleFormers' `DPOTrainer` reads, for the packs of `pack_preference`.

    The keys are `input_ids`, `position_ids`, `response_labels`, `response_indexs` and `attn_mask_startend_row_indices`
    (or `attention_mask`, float32, with mask="dense"). Pass it as the trainer's `data_collator`, for models whose config
    has `use_filtered_label_loss` off.
    """

    def __call__(self, packs: Sequence[AnswerPack]) -> dict[str, np.ndarray]:
        batch = super().__call__(packs)
        renamed = {
            "input_ids": batch["input_ids"],
            "position_ids": batch["position_ids"],
            "response_labels": batch["labels"],
            "response_indexs": batch["response_indices"],
        }
        if self.mask == "columns":
            renamed["attn_mask_startend_row_indices"] = batch["startend_row_indices"]
        else:
            renamed["attention_mask"] = batch["attention_mask"].astype(np.float32)
        return renamed
