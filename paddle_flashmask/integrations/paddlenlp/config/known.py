"""The keys of all tasks by name, so that an unknown one is reported before Paddle is imported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..errors import ConfigError

# Ours; everything else below is in PaddleNLP 3.0.0b4. A test compares both with the dataclasses of the tasks.
OWN_KEYS = frozenset(
    ("task", "flashmask_backend", "attention_mask_type", "attention_window_size", "loss_average", "share_prefixes")
)
_PADDLENLP_KEYS = """
    adam_beta1 adam_beta2 adam_epsilon aistudio_repo_id aistudio_repo_license aistudio_repo_private aistudio_token
    amp_custom_black_list amp_custom_white_list amp_master_grad attention_probs_dropout_prob
    auto_parallel_resume_form_hybrid_parallel autoregressive autotuner_benchmark benchmark beta bf16 bf16_full_eval
    chat_template ckpt_quant_stage context_parallel_degree continue_training count_trained_tokens data_parallel_config
    dataloader_drop_last dataloader_num_workers dataset_batch_size dataset_kwargs dataset_name_or_path dataset_num_proc
    dataset_text_field ddp_find_unused_parameters decay_steps desirable_weight dev_dataset_path device disable_tqdm
    distributed_dataloader do_eval do_export do_predict do_train dpop_lambda enable_auto_parallel
    eval_accumulation_steps eval_packing eval_steps eval_with_do_generation evaluation_strategy expert_max_capacity
    expert_min_capacity expert_parallel_degree expert_tensor_parallel_degree flash_mask flatten_param_grads
    force_reshard_pp fp16 fp16_full_eval fp16_opt_level from_aistudio fuse_attention_ffn fuse_attention_qkv
    fuse_sequence_parallel_allreduce gradient_accumulation_steps greater_is_better greedy_zero_padding
    hidden_dropout_prob hybrid_parallel_topo_order ignore_data_skip ignore_load_lr_and_optim ignore_save_lr_and_optim
    label_names label_smoothing lazy lazy_data_processing learning_rate load_best_model_at_end load_sharded_model
    local_rank log_on_each_node logging_dir logging_first_step logging_steps logging_strategy lokr lokr_dim lokr_path
    lora lora_alpha lora_path lora_plus_scale lora_rank lora_use_mixer loss_type lr_end lr_scheduler_type
    max_evaluate_steps max_grad_norm max_length max_prompt_len max_seq_len max_seq_length max_steps
    metric_for_best_model metrics_output_path minimum_eval_times model_init_kwargs model_name_or_path neftune
    neftune_noise_alpha no_cuda no_recompute_layers num_cycles num_prefix_tokens num_train_epochs offload_optim
    offload_recompute_inputs optim ordered_save_group_size output_dir output_signal_dir overwrite_output_dir
    pad_to_max_length pad_to_multiple_of pad_token_id past_index pdc_download_ckpt pdc_download_timeout
    per_device_eval_batch_size per_device_train_batch_size pipeline_parallel_config pipeline_parallel_degree pissa power
    pp_recompute_interval prediction_loss_only pref_loss_ratio prefix_path prefix_tuning recompute recompute_granularity
    recompute_use_reentrant ref_model_update_steps reference_free refined_recompute reft release_grads
    remove_unused_columns report_to resume_from_checkpoint rope_scaling_factor rslora rslora_plus run_name
    save_generation_output save_on_each_node save_sharded_model save_sharding_stage1_model_include_freeze_params
    save_steps save_strategy save_to_aistudio save_total_limit scale_loss seed sep_parallel_degree sequence_parallel
    sequence_parallel_config sft_loss_ratio sharding sharding_comm_buffer_size_MB sharding_degree
    sharding_parallel_config sharding_parallel_degree sharding_parallel_mesh_dimension simpo_gamma skip_data_intervals
    skip_memory_metrics skip_profile_timer split_inputs_sequence_dim src_length ssa_group_size_ratio strategy_name
    strategy_type task_name tensor_parallel_config tensor_parallel_degree tensor_parallel_output to_static
    tokenizer_name_or_path train_dataset_path undesirable_weight unified_checkpoint unified_checkpoint_config
    use_async_save use_expert_parallel use_fast_layer_norm use_flash_attention use_fused_dropout_add use_fused_linear
    use_fused_linear_cross_entropy use_fused_rms_norm use_fused_rope use_long_sequence_strategies use_mora
    use_pose_convert use_quick_lora use_ssa vera vera_rank virtual_pp_degree wandb_api_key wandb_http_proxy warmup_ratio
    warmup_steps weight_blocksize weight_decay weight_double_quant weight_double_quant_block_size weight_quantize_algo
    zero_padding
"""
PADDLENLP_KEYS = frozenset(_PADDLENLP_KEYS.split())

# PaddleNLP keys that have no effect in this trainer: any value but the default is rejected.
UNSUPPORTED_KEYS = {
    "prefix_tuning",
    "prefix_path",
    "vera",
    "lokr",
    "lokr_path",
    "reft",
    "neftune",
    "weight_quantize_algo",
    "lora_use_mixer",
    "use_mora",
    "use_long_sequence_strategies",
    "from_aistudio",
    "save_to_aistudio",
    "eval_with_do_generation",
    "save_generation_output",
    "task_name",
    "use_pose_convert",
    "autoregressive",
    "use_ssa",
    "do_predict",
    "do_export",
    "refined_recompute",
    "to_static",
    "dataset_text_field",
    "max_seq_length",
    "dataset_num_proc",
    "dataset_batch_size",
    "model_init_kwargs",
    "dataset_kwargs",
    "eval_packing",
}

# Words of other libraries for keys of PaddleNLP; a list where tasks have different keys for the same thing.
SYNONYMS = {
    "batch_size": ["per_device_train_batch_size"],
    "cutoff_len": ["max_length", "max_seq_len"],
    "epochs": ["num_train_epochs"],
    "eval_batch_size": ["per_device_eval_batch_size"],
    "lora_dim": ["lora_rank"],
    "lora_r": ["lora_rank"],
    "lr": ["learning_rate"],
    "max_length": ["max_seq_len"],
    "max_prompt_len": ["src_length"],
    "max_prompt_length": ["max_prompt_len", "src_length"],
    "max_seq_len": ["max_length"],
    "max_seq_length": ["max_length", "max_seq_len"],
    "model": ["model_name_or_path"],
    "packing": ["zero_padding", "greedy_zero_padding"],
    "src_length": ["max_prompt_len"],
    "train_batch_size": ["per_device_train_batch_size"],
}


def check_known(keys: Iterable[str], known: frozenset[str] = OWN_KEYS | PADDLENLP_KEYS) -> None:
    """Raise ConfigError for the keys that are not known, each with a known one that it may stand for."""
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ConfigError("; ".join(_unknown_key(key, known - UNSUPPORTED_KEYS) for key in unknown))


def _unknown_key(key: str, known: frozenset[str]) -> str:
    """Suggest a key only where it means the same or is a likely typing error."""
    near = [word for word in SYNONYMS.get(key, ()) if word in known]
    near = near or difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.75)
    return f"unknown key {key!r}" + (f"; the nearest known one is {near[0]!r}" if near else "")
