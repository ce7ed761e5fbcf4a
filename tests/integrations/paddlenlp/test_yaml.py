"""Configurations in YAML 1.2 mean what those in JSON mean, and their errors name line and column."""

from __future__ import annotations

import builtins
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.repository import REPOSITORY
from test_keys import EARLY, PROGRAM

from paddle_flashmask.integrations.paddlenlp.config.files import read_config
from paddle_flashmask.integrations.paddlenlp.config.values import check_early, read_values
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, UnsupportedConfigError
from paddle_flashmask.integrations.paddlenlp.tasks import task_of


@pytest.fixture
def yaml_file(tmp_path):
    def write(config: dict[str, Any] | str, name: str = "config.yaml") -> Path:
        if not isinstance(config, str):
            stream = io.StringIO()
            YAML(typ="safe", pure=True).dump(config, stream)
            config = stream.getvalue()
        path = tmp_path / name
        path.write_text(config, encoding="utf-8")
        return path

    return write


def test_the_example_is_that_in_json():
    folder = REPOSITORY / "examples" / "sft"
    values, expected = (read_values(folder / f"config.{ending}") for ending in ("yaml", "json"))
    assert values == expected
    assert {key: type(value) for key, value in values.items()} == {k: type(v) for k, v in expected.items()}


def test_values_are_those_of_yaml_1_2(yaml_file):
    text = "a: 1e-5\nb: no\nc: on\nd: 2026-01-02\ne: true\nf: [1, x]\ng: {h: 0.5}\ni: null\n"
    expected = {"a": 1e-5, "b": "no", "c": "on", "d": "2026-01-02", "e": True, "f": [1, "x"], "g": {"h": 0.5}}
    assert read_config(yaml_file(text)) == {**expected, "i": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nlazy: true\nseed: 2\n", r":3: duplicate key 'seed' \(column 1\)$"),
        ("f: {a: 1, a: 2}\n", r":1: duplicate key 'a' \(column 11\)$"),
        ("seed: [1\nlazy: true\n", r":2: not valid YAML: expected ',' or '\]', but got ':' \(column 5\)$"),
        ("seed:\t1\n\tlazy: true\n", r":1: not valid YAML: found character '\\t' that cannot start any token"),
        ("seed: !!python/name:os.system\n", r":1: not valid YAML: could not determine a constructor .*\(column 7\)$"),
        ("seed: 1\n---\nseed: 2\n", r":2: not valid YAML: but found another document \(column 1\)$"),
        ("- seed\n", ": expected a YAML mapping of configuration keys; got list$"),
        ("", ": expected a YAML mapping of configuration keys; got NoneType$"),
        ("1: seed\n", ": the key 1 must be text; got int$"),
        ("a: &a [*a]\n", ": a value contains itself$"),
    ],
)
def test_errors_name_the_place(yaml_file, text, message):
    path = yaml_file(text)
    with pytest.raises(ConfigError, match=f"^{path}{message}"):
        check_early(path)


def test_a_value_that_json_does_not_have(yaml_file):
    with pytest.raises(ConfigError, match="^run_name = b'a' must be text, a number, .*; got bytes"):
        check_early(yaml_file("run_name: !!binary YQ==\n"))


@pytest.mark.parametrize(("changes", "message"), EARLY)
def test_errors_are_those_of_json(changes, message, sft_config, yaml_file):
    with pytest.raises((ConfigError, UnsupportedConfigError)) as caught:
        check_early(yaml_file({**sft_config, **changes}))
    assert str(caught.value).startswith(message)


def test_errors_come_before_paddle_is_imported(sft_config, yaml_file):
    path = yaml_file({**sft_config, "learning_rate": -1}, "sft.yml")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "learning_rate = -1 must be above 0\nnot imported\n", done.stdout + done.stderr


def test_the_name_of_the_file_and_overrides_count(dpo_config, yaml_file):
    values = read_values(yaml_file(dpo_config, "dpo.yaml"), ["--max_steps", "7", "--learning_rate=1e-6"])
    assert (values["max_steps"], values["learning_rate"]) == ("7", "1e-6")
    task, inferred = task_of(values, "dpo")
    assert (task.key, inferred) == ("dpo", "from the file's name")


def test_a_missing_package_is_named(yaml_file, monkeypatch):
    imported = builtins.__import__

    def without_yaml(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("ruamel"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(ConfigError, match="YAML needs the package ruamel.yaml: pip install"):
        read_config(yaml_file("seed: 1\n"))


def test_a_file_in_another_encoding(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b'{"run_name": "\xe4"}')
    with pytest.raises(ConfigError, match="not UTF-8: byte 0xe4 at offset 14"):
        check_early(path)
