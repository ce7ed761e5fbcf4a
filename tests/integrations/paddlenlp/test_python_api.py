"""`train` with a mapping and callbacks. test_training_pages.py runs the example of docs/training/script.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paddlenlp.trainer import TrainerCallback
from test_keys import EARLY

from paddle_flashmask.integrations.paddlenlp import ConfigError, DataError, UnsupportedConfigError, train


@pytest.fixture
def config(sft_config) -> dict:
    return {**sft_config, "max_steps": 2, "lazy": False, "load_best_model_at_end": False}


def discard(line: str) -> None:
    """Drop what the run writes."""


def test_a_mapping_is_trained_as_its_file(config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    from_file = train(path, write=discard)
    given = {**config, "output_dir": tmp_path / "mapping", "dataset_name_or_path": Path(config["dataset_name_or_path"])}
    before = dict(given)
    from_mapping = train(given, ["--logging_steps", "1"], write=discard)
    assert given == before
    assert from_mapping.losses == from_file.losses and len(from_file.losses) == 2


class Events(TrainerCallback):
    def __init__(self):
        self.seen: list[str] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.seen.append("begin")

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(f"step {state.global_step}")
        control.should_training_stop = True

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.extend(key for key in logs if key == "loss")


def test_callbacks_see_and_steer_the_run(config):
    events = Events()
    result = train(config, callbacks=[events], write=discard)
    assert events.seen == ["begin", "step 1", "loss"]
    assert [step for step, _ in result.losses] == [1]


def test_what_is_no_callback_is_refused(config, tmp_path):
    for callback in (Events, print):
        with pytest.raises(TypeError, match="must be instances of paddlenlp.trainer.TrainerCallback; got"):
            train(config, callbacks=[callback], write=discard)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changes", "message"), EARLY)
def test_errors_are_those_of_a_file(changes, message, sft_config):
    with pytest.raises((ConfigError, UnsupportedConfigError)) as caught:
        train({**sft_config, **changes}, write=discard)
    assert str(caught.value).startswith(message)


def test_other_errors(config, dpo_config, tmp_path):
    with pytest.raises(ConfigError, match=r"several tasks: select one with the key task \(dpo, rm, kto\)$"):
        train(dpo_config, write=discard)
    with pytest.raises(ConfigError, match="^seed = .* must be text, a number, .*; got object$"):
        train({**config, "seed": object()}, write=discard)
    with pytest.raises(ConfigError, match="^the configuration: the key 1 must be text; got int$"):
        train({**config, 1: 2}, write=discard)
    (tmp_path / "train.json").write_text("{\n")
    with pytest.raises(DataError, match="train.json:1"):
        train({**config, "dataset_name_or_path": str(tmp_path)}, write=discard)


def test_an_error_comes_before_paddle_is_imported():
    program = (
        "import sys\nfrom paddle_flashmask.integrations.paddlenlp import train\n"
        "try:\n    train({'task': 'sft', 'seed': -1})\nexcept ValueError as error:\n    print(error)\n"
        "print(sorted({'paddle', 'paddlenlp'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"seed = -1 must be .*\n\[\]\n", done.stdout), done.stdout + done.stderr
