"""Boolean keys of PaddleNLP that do nothing or cannot work in this trainer, settled before PaddleNLP parses them."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedConfigError
from .value_types import is_on

WHOLE_SAVES = "a checkpoint must be whole before training goes on"
REFUSED = {
    "auto_parallel_resume_form_hybrid_parallel": "there is no automatic parallelism here",
    "count_trained_tokens": "training_summary.json counts tokens",
    "distributed_dataloader": "every process reads the data itself",
    "enable_auto_parallel": "there is no automatic parallelism here",
    "load_sharded_model": "use unified_checkpoint",
    "pdc_download_ckpt": "it needs PaddleNLP's cloud platform",
    "save_sharded_model": "use unified_checkpoint",
    "use_expert_parallel": "experts are not divided over processes here",
    "use_fused_linear_cross_entropy": "it needs a GPU kernel that is not part of PaddleNLP",
    "weight_double_quant": "weights are not quantized here",
}
WITHOUT_EFFECT = {
    "aistudio_repo_private": "nothing is uploaded",
    "bf16_full_eval": "evaluation has the precision of training",
    "flatten_param_grads": "only PaddleNLP's NPU trainer reads it",
    "force_reshard_pp": "there is no pipeline",
    "fp16_full_eval": "evaluation has the precision of training",
    "lazy_data_processing": "lazy selects how data is read",
    "no_cuda": "device selects the device",
    "prediction_loss_only": "evaluation keeps no predictions",
    "remove_unused_columns": "packs have no unused columns",
    "save_sharding_stage1_model_include_freeze_params": "whole models are saved",
    "split_inputs_sequence_dim": "context_parallel_degree divides the inputs by itself",
    "tensor_parallel_output": "the losses here take the logits of the whole vocabulary",
    "use_async_save": WHOLE_SAVES,
}
TENSOR_PARALLEL_ONLY = ("fuse_sequence_parallel_allreduce", "sequence_parallel")
LORA_ONLY = ("pissa", "use_quick_lora")
GPU_ONLY = (
    "offload_optim",
    "offload_recompute_inputs",
    "use_fast_layer_norm",
    "use_fused_dropout_add",
    "use_fused_linear",
    "use_fused_rms_norm",
    "use_fused_rope",
)


def check_switches(values: dict[str, Any]) -> None:
    """Raise UnsupportedConfigError for a key that cannot work here and is switched on."""
    for key in _switched_on(values):
        if key in REFUSED:
            raise UnsupportedConfigError(f"{key} = true is not supported in this release: {REFUSED[key]}")


def settle_switches(values: dict[str, Any], has_gpu: bool, tensor_parallel: bool) -> list[str]:
    """Remove the keys without effect from the values, and return a note for each. Raises as `check_switches`.

    tensor_parallel: whether a model is divided over several processes.
    """
    check_switches(values)
    notes = []
    for key in _switched_on(values):
        reason = WITHOUT_EFFECT.get(key)
        if not has_gpu and key in GPU_ONLY:
            reason = "it needs a GPU"
        if not has_gpu and key == "amp_master_grad":
            reason = "gradients are float32 on the CPU"
        if key in TENSOR_PARALLEL_ONLY and not tensor_parallel:
            reason = "there is no tensor parallelism"
        if key in LORA_ONLY and "lora" not in _switched_on(values):
            reason = "lora is not true"
        if reason is not None:
            del values[key]
            notes.append(f"{key} has no effect: {reason}")
    return notes


def _switched_on(values: dict[str, Any]) -> list[str]:
    return [key for key, value in values.items() if is_on(value)]
