"""Saved adapters and merged models load again, also in a process without paddle_flashmask."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import paddle
import pytest
from click.testing import CliRunner
from paddlenlp.transformers import AutoConfig, AutoModelForCausalLM

from paddle_flashmask.cli.merge import merge as merge_command
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError
from paddle_flashmask.integrations.paddlenlp.merge import merge_adapter
from paddle_flashmask.integrations.paddlenlp.reward_model import load_reward_model
from paddle_flashmask.integrations.paddlenlp.train import train

TOKENS = [[1, 5, 6, 7, 300, 12, 9]]
SMALL = {"max_steps": 2, "load_best_model_at_end": False, "gradient_accumulation_steps": 1}
LORA = {**SMALL, "lora": True, "lora_rank": 4, "learning_rate": 5e-2, "continue_training": True}

PLAIN_PADDLENLP = """
import json, sys
sys.modules["paddle_flashmask"] = None                       # an import of it fails
import paddle
from paddlenlp.peft import LoRAModel
from paddlenlp.transformers import AutoModelForCausalLM, AutoTokenizer
from paddlenlp.utils.log import logger

logger.set_level("ERROR")
tokens, logits = json.loads(sys.argv[1]), []
for folder, adapter in json.loads(sys.argv[2]):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    if adapter:
        model = LoRAModel.from_pretrained(model, adapter)
    model.eval()
    assert AutoTokenizer.from_pretrained(adapter or folder)("baling")["input_ids"]
    out = model(input_ids=paddle.to_tensor(tokens))
    logits.append((out[0] if isinstance(out, tuple) else out).numpy().tolist())
print(json.dumps(logits))
"""


@pytest.fixture
def run(tmp_path):
    def run(config: dict, name: str, **changes) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({**config, "output_dir": str(tmp_path / name), **changes}))
        return train(path, write=lambda line: None).output_dir

    return run


@pytest.fixture
def base(run, sft_config) -> str:
    """A saved language model."""
    return run(sft_config, "base", **SMALL)


def logits(model) -> np.ndarray:
    model.eval()
    out = model(input_ids=paddle.to_tensor(TOKENS))
    return (out[0] if isinstance(out, tuple) else out).numpy()


def in_plain_paddlenlp(*models: tuple[str, str]) -> list[np.ndarray]:
    """Logits of models, each a folder and an adapter or "", in a process that cannot import this package."""
    command = [sys.executable, "-c", PLAIN_PADDLENLP, json.dumps(TOKENS), json.dumps(models)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [np.array(logits, dtype=np.float32) for logits in json.loads(done.stdout.splitlines()[-1])]


def test_what_a_run_saved_loads_without_this_package(run, sft_config, dpo_config, base, tmp_path):
    adapter = run(dpo_config, "adapter", **LORA, task="dpo", model_name_or_path=base)
    merged = str(tmp_path / "merged")
    done = CliRunner().invoke(merge_command, [adapter, "--output", merged])
    assert done.exit_code == 0 and "written to" in done.output, done.output
    of_base, of_adapter, of_merged = in_plain_paddlenlp((base, ""), (base, adapter), (merged, ""))
    np.testing.assert_allclose(of_base, logits(AutoModelForCausalLM.from_pretrained(base)), rtol=1e-5)
    np.testing.assert_allclose(of_merged, of_adapter, rtol=1e-4, atol=1e-5)
    assert np.abs(of_adapter - of_base).max() > 1e-2
    again = run(sft_config, "again", **SMALL, continue_training=True, model_name_or_path=merged, learning_rate=1e-30)
    np.testing.assert_allclose(logits(AutoModelForCausalLM.from_pretrained(again)), of_merged, rtol=1e-4, atol=1e-5)


def test_a_merged_model_has_the_precision_of_its_base(run, sft_config, base, tmp_path):
    adapter = run(sft_config, "adapter", **LORA, model_name_or_path=base)
    exact = tmp_path / "exact"
    merge_adapter(adapter, exact)
    halved = AutoModelForCausalLM.from_pretrained(base)
    halved.to(dtype="bfloat16")
    halved.config.dtype = "bfloat16"
    halved.save_pretrained(str(tmp_path / "half"))
    merge_adapter(adapter, tmp_path / "merged", base=str(tmp_path / "half"))
    assert AutoConfig.from_pretrained(str(tmp_path / "merged")).dtype == "bfloat16"
    weights = [paddle.load(str(folder / "model_state.pdparams")) for folder in (exact, tmp_path / "merged")]
    for name, weight in weights[0].items():
        assert weights[1][name].dtype == paddle.bfloat16
        np.testing.assert_allclose(weights[1][name].astype("float32"), weight, atol=float(weight.abs().max()) * 2**-7)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_the_adapter_of_a_reward_model(run, sft_config, task_config, model_folders, tmp_path, name):
    base = run(sft_config, "base", **SMALL, model_name_or_path=str(model_folders[name]))
    rm_config = task_config("rm")
    config = {**rm_config, **LORA, "do_eval": True, "lazy": False, "max_steps": 6}
    adapter = run(config, "adapter", model_name_or_path=base)
    evaluated = json.loads((tmp_path / "adapter" / "training_summary.json").read_text())["evaluations"][-1]
    merge_adapter(adapter, tmp_path / "merged")
    places = paddle.to_tensor([[0, 3], [0, 6]])
    of_adapter, of_merged = (
        load_reward_model(folder)(paddle.to_tensor(TOKENS), answer_places=places).numpy()
        for folder in (adapter, tmp_path / "merged")
    )
    np.testing.assert_allclose(of_merged, of_adapter, rtol=1e-4, atol=1e-6)
    rest = {"do_train": False, "do_eval": True, "load_best_model_at_end": False, "continue_training": True}
    run({**rm_config, **rest}, "again", model_name_or_path=str(tmp_path / "merged"))
    again = json.loads((tmp_path / "again" / "training_summary.json").read_text())["evaluations"][-1]
    assert again["eval_loss"] == pytest.approx(evaluated["eval_loss"], rel=1e-5)
    assert evaluated["eval_margin"] > 0


def test_what_cannot_be_merged_is_named(run, sft_config, base, tmp_path):
    adapter = run(sft_config, "adapter", **LORA, model_name_or_path=base)
    with pytest.raises(ConfigError, match="is not a LoRA adapter: it has no lora_config.json"):
        merge_adapter(base, tmp_path / "merged")
    with pytest.raises(ConfigError, match="is not empty"):
        merge_adapter(adapter, base)
    with pytest.raises(ConfigError, match="the base model '/nowhere' of .* cannot be read"):
        merge_adapter(adapter, tmp_path / "merged", base="/nowhere")
    config = tmp_path / "adapter" / "lora_config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "base_model_name_or_path": None}))
    done = CliRunner().invoke(merge_command, [adapter, "--output", str(tmp_path / "merged")])
    assert done.exit_code == 1 and "does not name the model it belongs to" in done.output
