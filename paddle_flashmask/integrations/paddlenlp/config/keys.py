"""Tables of the keys: their types, their tasks, and those that do nothing here. A test compares them with PaddleNLP.

They let a wrong configuration be reported before Paddle is imported. All keys but OWN_KEYS are in PaddleNLP 3.0.0b4.
"""

from __future__ import annotations

from typing import Any

OWN_KEYS = frozenset(
    ("task", "flashmask_backend", "attention_mask_type", "attention_window_size", "loss_average", "share_prefixes")
)

_SWITCHES = """
    aistudio_repo_private amp_master_grad auto_parallel_resume_form_hybrid_parallel autoregressive
    autotuner_benchmark benchmark bf16 bf16_full_eval continue_training count_trained_tokens
    dataloader_drop_last ddp_find_unused_parameters disable_tqdm distributed_dataloader do_eval do_export
    do_predict do_train enable_auto_parallel eval_packing eval_with_do_generation flash_mask flatten_param_grads
    force_reshard_pp fp16 fp16_full_eval from_aistudio fuse_attention_ffn fuse_attention_qkv
    fuse_sequence_parallel_allreduce greater_is_better greedy_zero_padding ignore_data_skip
    ignore_load_lr_and_optim ignore_save_lr_and_optim lazy lazy_data_processing load_best_model_at_end
    load_sharded_model log_on_each_node logging_first_step lokr lora lora_use_mixer neftune no_cuda
    offload_optim offload_recompute_inputs overwrite_output_dir pad_to_max_length pdc_download_ckpt pissa
    prediction_loss_only prefix_tuning recompute recompute_use_reentrant reference_free reft release_grads
    remove_unused_columns rslora rslora_plus save_generation_output save_on_each_node save_sharded_model
    save_sharding_stage1_model_include_freeze_params save_to_aistudio sequence_parallel share_prefixes
    skip_memory_metrics skip_profile_timer split_inputs_sequence_dim tensor_parallel_output to_static
    unified_checkpoint use_async_save use_expert_parallel use_fast_layer_norm use_flash_attention
    use_fused_dropout_add use_fused_linear use_fused_linear_cross_entropy use_fused_rms_norm use_fused_rope
    use_long_sequence_strategies use_mora use_pose_convert use_quick_lora use_ssa vera weight_double_quant
    zero_padding
"""
_INTEGERS = """
    attention_window_size context_parallel_degree dataloader_num_workers dataset_batch_size dataset_num_proc
    decay_steps eval_accumulation_steps eval_steps expert_max_capacity expert_min_capacity
    expert_parallel_degree expert_tensor_parallel_degree gradient_accumulation_steps local_rank logging_steps
    lokr_dim lora_alpha lora_rank max_evaluate_steps max_length max_prompt_len max_seq_len max_seq_length
    max_steps minimum_eval_times num_prefix_tokens ordered_save_group_size pad_to_multiple_of pad_token_id
    past_index pdc_download_timeout per_device_eval_batch_size per_device_train_batch_size
    pipeline_parallel_degree pp_recompute_interval ref_model_update_steps save_steps save_total_limit seed
    sep_parallel_degree sharding_comm_buffer_size_MB sharding_degree sharding_parallel_degree src_length
    tensor_parallel_degree vera_rank virtual_pp_degree warmup_steps weight_blocksize
    weight_double_quant_block_size
"""
_NUMBERS = """
    adam_beta1 adam_beta2 adam_epsilon attention_probs_dropout_prob beta desirable_weight dpop_lambda
    hidden_dropout_prob label_smoothing learning_rate lora_plus_scale lr_end max_grad_norm neftune_noise_alpha
    num_cycles num_train_epochs power pref_loss_ratio rope_scaling_factor scale_loss sft_loss_ratio simpo_gamma
    ssa_group_size_ratio undesirable_weight warmup_ratio weight_decay
"""
_TEXTS = """
    aistudio_repo_id aistudio_repo_license aistudio_token attention_mask_type chat_template ckpt_quant_stage
    data_parallel_config dataset_name_or_path dataset_text_field dev_dataset_path device fp16_opt_level
    hybrid_parallel_topo_order logging_dir lokr_path lora_path loss_average loss_type lr_scheduler_type
    metric_for_best_model metrics_output_path model_name_or_path optim output_dir output_signal_dir
    pipeline_parallel_config prefix_path recompute_granularity refined_recompute resume_from_checkpoint run_name
    sequence_parallel_config sharding sharding_parallel_config sharding_parallel_mesh_dimension strategy_name
    strategy_type task_name tensor_parallel_config tokenizer_name_or_path train_dataset_path
    unified_checkpoint_config wandb_api_key wandb_http_proxy weight_quantize_algo
"""
_LISTS = """
    amp_custom_black_list amp_custom_white_list label_names no_recompute_layers report_to skip_data_intervals
"""
_OBJECTS = """
    dataset_kwargs model_init_kwargs
"""
SWITCHES = frozenset(_SWITCHES.split())
INTEGERS = frozenset(_INTEGERS.split())
NUMBERS = frozenset(_NUMBERS.split())
TEXTS = frozenset((*_TEXTS.split(), "task", "flashmask_backend"))
LISTS = frozenset(_LISTS.split())
OBJECTS = frozenset(_OBJECTS.split())
CHOICES = dict.fromkeys(("evaluation_strategy", "logging_strategy", "save_strategy"), ("no", "steps", "epoch"))
KEYS = SWITCHES | INTEGERS | NUMBERS | TEXTS | LISTS | OBJECTS | CHOICES.keys()

TASKS = ("sft", "dpo", "rm", "kto")
_KEYS_OF_TASKS = {
    ("sft",): """
        attention_mask_type attention_window_size autoregressive dataset_name_or_path eval_with_do_generation max_length
        save_generation_output share_prefixes src_length task_name use_pose_convert zero_padding
    """,
    ("dpo", "rm", "kto"): """
        dev_dataset_path lora_alpha max_prompt_len max_seq_len rslora_plus train_dataset_path
    """,
    ("dpo", "rm"): "loss_type",
    ("dpo", "kto"): "beta",
    ("dpo",): """
        dpop_lambda label_smoothing pref_loss_ratio ref_model_update_steps reference_free sft_loss_ratio simpo_gamma
    """,
    ("kto",): "desirable_weight undesirable_weight",
}
TASKS_OF = {key: tasks for tasks, keys in _KEYS_OF_TASKS.items() for key in keys.split()}
"""Tasks that have a key, in the order of TASKS, for the keys that not all of them have."""
IDENTIFYING = {
    **dict.fromkeys(("dataset_name_or_path", "zero_padding", "src_length", "max_length"), "sft"),
    **{key: tasks[0] for key, tasks in TASKS_OF.items() if tasks in (("dpo",), ("kto",))},
}
"""The task that a configuration with a key is for."""

UNSUPPORTED_KEYS: dict[str, Any] = {
    **dict.fromkeys(("prefix_path", "lokr_path", "weight_quantize_algo", "task_name")),
    **dict.fromkeys(("dataset_num_proc", "model_init_kwargs", "dataset_kwargs", "eval_packing")),
    **dict.fromkeys(("prefix_tuning", "vera", "lokr", "reft", "neftune", "lora_use_mixer", "use_mora"), False),
    **dict.fromkeys(("use_long_sequence_strategies", "from_aistudio", "save_to_aistudio"), False),
    **dict.fromkeys(("eval_with_do_generation", "save_generation_output", "use_pose_convert", "autoregressive"), False),
    **dict.fromkeys(("use_ssa", "do_predict", "do_export", "to_static"), False),
    "refined_recompute": "",
    "dataset_text_field": "text",
    "max_seq_length": 2048,
    "dataset_batch_size": 1000,
}
"""Keys that have no effect in this trainer, with their defaults: any other value is rejected."""

OTHER_RELEASES = frozenset(
    [
        "aux_loss_alpha",
        "dpo_beta",
        "dpo_label_smoothing",
        "dpo_loss_type",
        "eval_datasets",
        "hf_ckpt_dir",
        "lqlora_quantize_cfg",
        "lqlora_state_dict",
        "moe_subbatch_token_num",
        "normalize_score_during_training",
        "normalizer_momentum",
        "normalizer_type",
        "pre_alloc_memory",
        "regularization",
        "rope_scaling_type",
        "tensorwise_offload_optimizer",
        "train_datasets",
        "use_fused_head_and_loss_fn",
        "use_shift_sparse_attention",
        "use_sparse_head_and_loss_fn",
        "using_fake_gate",
        "using_flex_token",
    ]
)
"""Keys in the published files of other releases of PaddleNLP."""
