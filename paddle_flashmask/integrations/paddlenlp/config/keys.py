"""Tables of the keys: their types, their tasks, and those that do nothing here.

They let a wrong configuration be reported before Paddle is imported. keys.json is written from the records of the tasks
by `python -m paddle_flashmask.integrations.paddlenlp.tasks.write_keys`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TABLE = json.loads((Path(__file__).parent / "keys.json").read_text(encoding="utf-8"))

TASKS = tuple(_TABLE["tasks"])
IDENTIFYING = {key: task for task, entry in _TABLE["tasks"].items() for key in entry["own_keys"]}
"""The task that a configuration with a key is for."""
DATA_KEYS: dict[str, dict[str, list[str]]] = {task: entry["data_keys"] for task, entry in _TABLE["tasks"].items()}
"""Task -> do_train, do_eval -> keys of the data that it needs."""
LENGTH_KEYS: dict[str, list[str]] = {task: entry["length_keys"] for task, entry in _TABLE["tasks"].items()}
"""Task -> keys of the tokens in a pack, and of those that a prompt may have."""
FIGURES_OF: dict[str, list[str]] = {task: entry["figures"] for task, entry in _TABLE["tasks"].items()}
"""Task -> figures of an evaluation, without their prefix."""
CHOICES_OF: dict[str, dict[str, list[str]]] = {task: entry["choices"] for task, entry in _TABLE["tasks"].items()}
"""Task -> keys of that task that take one of a few values."""
TYPES: dict[str, str] = {key: entry["type"] for key, entry in _TABLE["keys"].items()}
"""Keys of all tasks: switch, integer, number, text, choice, list, object or data sets."""
CHOICES = {key: tuple(entry["choices"]) for key, entry in _TABLE["keys"].items() if "choices" in entry}
DEFAULTS: dict[str, Any] = {key: entry.get("default") for key, entry in _TABLE["keys"].items()}
"""None also where tasks have different ones."""
TASKS_OF = {key: tuple(entry["tasks"]) for key, entry in _TABLE["keys"].items() if "tasks" in entry}
"""Tasks that have a key, for the keys that not all of them have."""

_UNSUPPORTED = """
    autoregressive dataset_batch_size dataset_kwargs dataset_num_proc dataset_text_field do_export do_predict
    eval_packing eval_with_do_generation from_aistudio lokr lokr_path lora_use_mixer max_seq_length model_init_kwargs
    neftune prefix_path prefix_tuning refined_recompute reft save_generation_output save_to_aistudio task_name to_static
    use_long_sequence_strategies use_mora use_pose_convert use_ssa vera weight_quantize_algo
"""
UNSUPPORTED_KEYS = frozenset(_UNSUPPORTED.split())
"""Keys that have no effect in this trainer: any value but the default is rejected."""
_OTHER_RELEASES = """
    aux_loss_alpha dpo_beta dpo_label_smoothing dpo_loss_type eval_datasets hf_ckpt_dir lqlora_quantize_cfg
    lqlora_state_dict moe_subbatch_token_num normalize_score_during_training normalizer_momentum normalizer_type
    pre_alloc_memory regularization rope_scaling_type tensorwise_offload_optimizer train_datasets
    use_fused_head_and_loss_fn use_shift_sparse_attention use_sparse_head_and_loss_fn using_fake_gate using_flex_token
"""
OTHER_RELEASES = frozenset(_OTHER_RELEASES.split())
"""Keys in the published files of other releases of PaddleNLP."""
