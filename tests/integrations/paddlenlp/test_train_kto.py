"""KTO on packed samples equals the dense mask and the unpacked run."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from sentences import sentence, write_rows
from unpacked import run_apart

DENSE = {"flash_mask": False, "use_flash_attention": False}


def small_config(request, folder: Path) -> dict:
    """40 answers, wanted or not."""
    rng = random.Random(8)
    rows = [
        {"src": [sentence(rng, 2, 6)], "tgt": [], "response": [sentence(rng, 1, 9)], "sort": [i % 2]} for i in range(40)
    ]
    path = folder / "train.jsonl"
    write_rows(path, rows)
    return {
        **request.getfixturevalue("dpo_config"),
        "train_dataset_path": str(path),
        "desirable_weight": 1.0,
        "undesirable_weight": 1.2,
    }


@pytest.fixture
def kto_config(task_config) -> dict:
    return task_config("kto")


@pytest.fixture
def run(kto_config, train_anew):
    return functools.partial(train_anew, "kto", kto_config)


def compare(result, other) -> None:
    assert len(result.losses) == len(other.losses) == 5
    for key in ("loss", "logps/chosen", "logps/rejected", "count/chosen", "count/rejected"):
        ours, theirs = ([entry[key] for entry in one.metrics] for one in (result, other))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("options", [{}, {"lora": True, "lora_rank": 4, "learning_rate": 1e-2, "lazy": False}])
def test_packed_samples_equal_the_dense_mask_and_each_answer_alone(run, monkeypatch, options):
    packed = run(**options)
    compare(packed, run(**options, **DENSE))
    with monkeypatch.context() as patch:
        lengths = []
        run_apart(patch, lengths)
        alone = run(**options, **DENSE)
    assert lengths and max(lengths) < 128
    compare(packed, alone)
    assert packed.losses[0][1] != packed.losses[-1][1]


def test_the_reference_point_is_never_negative(run):
    """PaddleNLP clips the KL estimate at 0 on several processes but not on one."""
    kl = [entry["kl"] for entry in run(learning_rate=2e-2).metrics]
    assert min(kl) == 0.0


def test_batches_of_one_kind_and_evaluation(run, kto_config, tmp_path):
    path = tmp_path / "wanted.jsonl"
    rows = [{"prompt": q, "completion": text, "label": True} for q, text in (("baling", "dimor"), ("chene", "rix"))]
    path.write_text("\n".join(map(json.dumps, rows)))
    options = {"do_eval": True, "dev_dataset_path": kto_config["train_dataset_path"], "load_best_model_at_end": False}
    result = run(train_dataset_path=str(path), gradient_accumulation_steps=1, max_steps=2, **options)
    assert result.metrics[0]["loss"] == pytest.approx(0.5) and result.metrics[0]["count/rejected"] == 0
    assert np.isfinite(result.evaluations[-1]["eval_loss"])
