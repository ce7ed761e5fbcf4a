"""A model is replaced whole, wherever the replacement is cut; a folder belongs to one run at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paddle_flashmask.integrations.paddlenlp.errors import ConfigError
from paddle_flashmask.integrations.paddlenlp.runs import folder as folder_module
from paddle_flashmask.integrations.paddlenlp.runs.folder import publish_model, recover
from paddle_flashmask.integrations.paddlenlp.runs.lock import LOCK_NAME, folder_lock

OLD = {"config.json": "old", "model_state.pdparams": "old", "tokenizer.json": "old"}
NEW = {
    "config.json": "new",
    "model-00001-of-00001.safetensors": "new",
    "model.safetensors.index.json": "new",
    "tokenizer.json": "new",
}


class Cut(BaseException):
    """Stands for kill -9."""


def fill(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def weights(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name.startswith("model")}


def test_a_model_is_replaced_whole_wherever_it_is_cut(tmp_path, monkeypatch):
    replace, unlink = os.replace, Path.unlink
    for cut in range(20):
        out = tmp_path / str(cut)
        fill(out, OLD)
        fill(out / folder_module.UNFINISHED / "model", NEW)
        left = cut

        def count(operation):
            def counted(*arguments, **options):
                nonlocal left
                if left == 0:
                    raise Cut
                left -= 1
                return operation(*arguments, **options)

            return counted

        with monkeypatch.context() as patch:
            patch.setattr(folder_module.os, "replace", count(replace))
            patch.setattr(Path, "unlink", count(unlink))
            try:
                publish_model(out)
                complete = True
            except Cut:
                complete = False
        found = weights(out)
        loadable = {"model_state.pdparams", "model.safetensors.index.json"} & found.keys()
        assert not loadable or found in ({"model_state.pdparams": "old"}, {k: "new" for k in NEW if k[:5] == "model"})
        recover(out, lambda line: None)
        files = {path.name: path.read_text() for path in out.iterdir()}
        assert files == (OLD if cut == 0 else NEW)
        if complete:
            break
    assert complete and cut > 5


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path/out."""
    path = tmp_path / "out" / LOCK_NAME
    path.parent.mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    path.write_text(json.dumps({"pid": process.pid, "host": "here"}))
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_in_use_is_refused_and_a_lock_left_behind_is_not(tmp_path, holder):
    lines: list[str] = []
    in_use = rf"in use by another run \(process {holder.pid} on here\)"
    with pytest.raises(ConfigError, match=in_use), folder_lock(tmp_path / "out", lines.append):
        pass
    holder.kill()
    holder.wait()
    with folder_lock(tmp_path / "out", lines.append):
        assert json.loads((tmp_path / "out" / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert len(lines) == 1 and f"(process {holder.pid} on here) was killed" in lines[0]
    with folder_lock(tmp_path / "out", lines.append):
        pass
    assert len(lines) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="output_dir = .*file/out.* cannot be written"),
        folder_lock(tmp_path / "file" / "out", print),
    ):
        pass


def test_what_was_half_written_is_dropped(tmp_path):
    lines: list[str] = []
    fill(tmp_path / folder_module.UNFINISHED / "checkpoint-4", {"config.json": "half"})
    recover(tmp_path, lines.append)
    assert not list(tmp_path.iterdir()) and "checkpoint-4 was not complete" in lines[0]
    shutil.rmtree(tmp_path)
