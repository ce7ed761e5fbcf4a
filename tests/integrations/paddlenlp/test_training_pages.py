"""The Python code of the pages on PaddleNLP, on tiny models and data; tests/docs/test_code_blocks.py has the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddlenlp.transformers import LlamaConfig, LlamaForCausalLM
from support.markdown import DOCS, run_page
from tiny import TINY

import paddle_flashmask
from paddle_flashmask import masks
from paddle_flashmask.integrations.paddlenlp.reward_model import reward_model_class

LENGTH = 1024


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(tokenizer: Any) -> LlamaConfig:
    shape = {**TINY, "max_position_embeddings": LENGTH}
    return LlamaConfig(vocab_size=len(tokenizer), architectures=["LlamaForCausalLM"], **shape)


def run(page: str, **given: Any) -> dict[str, Any]:
    return run_page(DOCS / page, {"__name__": "page", **given})


def test_models(tokenizer: Any) -> None:
    model = LlamaForCausalLM(config_of(tokenizer))
    ids = paddle.randint(5, 300, [1, LENGTH])
    positions = paddle.concat([paddle.arange(length) for length in (500, 300, 224)]).unsqueeze(0)
    names = run("models.md", model=model, input_ids=ids, positions=positions, labels=ids)
    assert float(names["loss"]) > 0
    assert model.lm_head.weight.grad is not None


def test_checks(tokenizer: Any) -> None:
    columns = [
        masks.causal_document([300, 200, 12]).startend_row_indices,
        masks.share_question([[100, 40, 60], [90]], 512).startend_row_indices,
    ]
    positions = np.zeros((2, 512), dtype=np.int64)
    positions[0] = np.concatenate([np.arange(length) for length in (300, 200, 12)])
    answers = [np.arange(100), *(np.arange(100, 100 + length) for length in (40, 60))]
    positions[1, :290] = np.concatenate([*answers, np.arange(90)])
    batch = {
        "input_ids": np.random.default_rng(0).integers(5, 300, size=(2, 512)),
        "position_ids": positions,
        "attn_mask_startend_row_indices": np.concatenate(columns),
    }
    with paddle_flashmask.enabled():
        model = LlamaForCausalLM(config_of(tokenizer))
        assert run("training/checks.md", model=model, batch=batch)["report"].passed


def test_reward_model(tokenizer: Any, scratch: Path) -> None:
    config = config_of(tokenizer)
    reward_model_class(config)(config).save_pretrained(str(scratch / "rm"))
    places = paddle.to_tensor([[0, 3], [0, 6]])
    ids = paddle.to_tensor([[1, 5, 6, 7, 8, 9, 2]])
    assert run("training/rm.md", input_ids=ids, last_tokens=places)["scores"].shape == [2]


def test_script(
    dpo_config: dict[str, Any],
    model_folders: dict[str, Path],
    data_folder: Path,
    scratch: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    (scratch / "dpo.json").write_text(json.dumps(dpo_config))
    (scratch / "model").symlink_to(model_folders["llama"])
    (scratch / "data").symlink_to(data_folder)
    row = {
        "input_ids": [1, 5, 6, 7],
        "labels": [-100, -100, 7, 2],
        "prompt": [1, 5],
        "chosen": [6, 7, 2],
        "rejected": [8, 2],
        "answers": [[6, 7, 2], [8, 2]],
    }
    names = run("training/script.md", rows=[row] * 10)
    assert names["batch"]["input_ids"].shape[0] == 2
    assert names["pairs"].report.rows == names["ranked"].report.rows == 10
    assert [step for step, _ in names["result"].losses] == [1, 2, 3] and len(names["norms"].norms) == 3
    assert "step 3/3  loss" in capsys.readouterr().out and (scratch / "out" / "finished.json").is_file()


def test_what_is_learned(tokenizer: Any, data_folder: Path, scratch: Path, capsys: pytest.CaptureFixture) -> None:
    (scratch / "data").symlink_to(data_folder)
    run("training/what_is_learned.md", tokenizer=tokenizer)
    answers = [json.loads(line)["tgt"] for line in (data_folder / "train.json").read_text().splitlines()]
    assert [line.removesuffix("</s>").strip() for line in capsys.readouterr().out.splitlines()] == answers
