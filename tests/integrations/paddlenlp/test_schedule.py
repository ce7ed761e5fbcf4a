"""Epochs shorter than a step, without any batch, and warm-ups that last for the whole run."""

from __future__ import annotations

import json

import pytest

from paddle_flashmask.integrations.paddlenlp.errors import ConfigError
from paddle_flashmask.integrations.paddlenlp.inspection.inspect import inspect
from paddle_flashmask.integrations.paddlenlp.train import train


@pytest.fixture
def config(sft_config, tmp_path):
    """A function that writes the configuration with changes, in a folder of its own, and returns its path."""
    numbers = iter(range(100))

    def write(**changes):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        values = {**sft_config, "load_best_model_at_end": False, "lazy": False, "output_dir": str(folder / "out")}
        (folder / "sft.json").write_text(json.dumps({**values, **changes}))
        return folder / "sft.json"

    return write


def test_an_epoch_shorter_than_a_step_is_one_step(config):
    epochs = {"max_steps": -1, "num_train_epochs": 2}
    lines: list[str] = []
    found = inspect(config(gradient_accumulation_steps=1000, **epochs), batches=0, write=lines.append)
    batches = found.facts[[name for name, _ in found.facts].index("rows")][1].split(" in ")[1].split(" packs")[0]
    note = (
        f"note: gradient_accumulation_steps = 1000 is above the number of batches in an epoch, {batches}: every step "
        "takes the batches of one epoch"
    )
    assert note in lines
    assert ("steps", "1 per epoch; 2 in the run, 2.00 epochs") in found.facts
    lines.clear()
    result = train(config(gradient_accumulation_steps=1000, **epochs), write=lines.append)
    assert note in lines and [step for step, _ in result.losses] == [1, 2]
    lines.clear()
    expected = train(config(gradient_accumulation_steps=int(batches), **epochs), write=lines.append)
    assert result.losses == expected.losses and not any("gradient_accumulation_steps" in line for line in lines)


@pytest.mark.parametrize("command", [train, inspect])
def test_an_epoch_without_batches_is_refused(command, config):
    path = config(dataloader_drop_last=True, per_device_train_batch_size=1000)
    with pytest.raises(ConfigError, match="fewer packs than per_device_train_batch_size = 1000"):
        command(path, write=lambda line: None)


@pytest.mark.parametrize(
    ("changes", "noted"),
    [
        ({"warmup_steps": 3}, "warmup_steps = 3 covers all 3 steps of the run: the learning rate does not reach"),
        ({"warmup_ratio": 1}, "warmup_ratio = 1.0 covers all 3 steps of the run"),
        ({"warmup_steps": 3, "lazy": True}, "warmup_steps = 3 covers all 3 steps of the run"),
        ({"warmup_steps": 2}, None),
        ({"warmup_steps": 3, "lr_scheduler_type": "constant"}, None),
    ],
)
def test_a_warm_up_that_never_ends_is_noted(changes, noted, config):
    lines: list[str] = []
    inspect(config(**changes), batches=0, write=lines.append)
    assert [noted in line for line in lines if "warmup" in line] == [True] * (noted is not None)
