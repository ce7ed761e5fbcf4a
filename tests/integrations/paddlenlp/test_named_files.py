"""Files and folders that a configuration names and that cannot be used: one error with the name, before any packing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from paddle_flashmask.integrations.paddlenlp.errors import ConfigError
from paddle_flashmask.integrations.paddlenlp.inspection.inspect import inspect
from paddle_flashmask.integrations.paddlenlp.train import train
from paddle_flashmask.integrations.paddlenlp.verification.configuration import verify_config

COMMANDS = [train, verify_config, inspect]


@pytest.fixture
def refusal(sft_config, tmp_path):
    """A function from a command and changes of an SFT configuration to the message of its ConfigError."""

    def refusal(command, **changes) -> str:
        path, lines = tmp_path / "sft.json", []
        path.write_text(json.dumps({**sft_config, "load_best_model_at_end": False, "lazy": False, **changes}))
        with pytest.raises(ConfigError) as caught:
            command(path, write=lines.append)
        assert not any(line.startswith("training data") for line in lines)
        return str(caught.value)

    return refusal


@pytest.fixture
def with_template(model_folders, tmp_path):
    """A function from the chat_template of a tokenizer_config.json to a model folder with it."""

    def make(template) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(model_folders["llama"], folder)
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
        return folder

    return make


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}\n{{ m.content", "line 2: unexpected end of template"),
        ("a\n\n{% endfor %}", "line 3: Encountered unknown tag 'endfor'"),
        (
            "{% for m in messages %}\n{%- generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
            "line 2: PaddleNLP does not support {% generation %}; remove this tag and {% endgeneration %}",
        ),
        ([{"name": "default", "template": "{{ messages }}"}], "must be one template; got list"),
    ],
)
def test_a_template_that_does_not_compile_is_named_with_its_line(template, message, refusal, with_template):
    folder = with_template(template)
    found = refusal(inspect, model_name_or_path=str(folder))
    assert found.startswith(f"{folder / 'tokenizer_config.json'}: chat_template") and message in found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_adapters_is_named(command, refusal, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "lora_config.json").write_text("{}")
    found = refusal(command, lora=True, lora_path=str(tmp_path / "adapter"))
    assert found.endswith(
        "adapter' is not a LoRA adapter: it has no lora_model_state.pdparams or peft_model.safetensors.index.json"
    )
    found = refusal(command, lora=True, lora_path="/nope")
    assert found == "lora_path = '/nope' is not a LoRA adapter: it has no lora_config.json"


def test_a_logging_dir_that_cannot_be_made_is_named(refusal, tmp_path):
    (tmp_path / "file").touch()
    found = refusal(train, logging_dir=str(tmp_path / "file" / "logs"))
    assert found == f"logging_dir = '{tmp_path}/file/logs' cannot be written: Not a directory"
