"""The task records: the choice of one for a configuration, and every step up to batches without a trainer."""

from __future__ import annotations

import numpy as np
import pytest
from support.specification import REPOSITORY

from paddle_flashmask.integrations.paddlenlp.errors import ConfigError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS, task_of


@pytest.mark.parametrize(
    ("name", "values", "task", "reason"),
    [
        ("dpo", {"max_seq_len": 8}, "dpo", "from the file's name"),
        ("my-rm_config", {"max_seq_len": 8}, "rm", "from the file's name"),
        ("config", {"max_seq_len": 8, "task": "kto"}, "kto", ""),
        ("dpo", {"task": "rm"}, "rm", ""),
        ("config", {"sft_loss_ratio": 0.1}, "dpo", "from the key sft_loss_ratio"),
        ("config", {"desirable_weight": 1}, "kto", "from the key desirable_weight"),
        ("config", {"dataset_name_or_path": "x"}, "sft", ""),
        ("config", {"dataset_name_or_path": "x", "clip_ratio": 0.1}, "policy", "from the key clip_ratio"),
        ("config", {}, "sft", ""),
    ],
)
def test_the_task_is_inferred_from_the_key_the_keys_or_the_name(name, values, task, reason):
    assert task_of(values, name) == (TASKS[task], reason)


def test_an_ambiguous_configuration_is_rejected():
    with pytest.raises(ConfigError, match=r"fits several tasks: select one with the key task \(dpo, rm, kto.*\)"):
        task_of({"max_seq_len": 8}, "config")
    with pytest.raises(ConfigError, match=f"task = 'ppo' must be one of {', '.join(TASKS)}"):
        task_of({"max_seq_len": 8, "task": "ppo"}, "dpo")


@pytest.mark.parametrize("key", TASKS)
@pytest.mark.parametrize("lazy", [False, True])
def test_rows_packs_and_batches_need_no_trainer(key, lazy, task_config, tokenizer):
    task = TASKS[key]
    arguments = task.arguments(task_config(key))
    rows = task.rows(arguments, tokenizer, "train")
    packs = list(task.packs(arguments, rows, lazy).packs)
    assert rows.files and len(packs) > 1
    batch = task.collator(arguments, tokenizer.pad_token_id or 0)(packs[:2])
    length = max(map(len, packs[:2]))
    assert length <= task.max_length(arguments)
    assert batch["input_ids"].shape == batch["position_ids"].shape == (2, length)
    columns = batch["attn_mask_startend_row_indices"]
    assert columns.dtype == np.int32 and columns.shape == (2, 1, length)


@pytest.mark.parametrize("key", TASKS)
def test_every_task_has_a_page(key):
    assert (REPOSITORY / "docs" / "training" / f"{key}.md").is_file()
