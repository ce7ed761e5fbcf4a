"""Short runs that are killed at random moments, and started again until they end.

A run is a process of a fork server that has imported PaddleNLP, so that most kills hit loading, training and saving.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
from run_folders import SAVING, weights_in

from paddle_flashmask.integrations.paddlenlp.runs.folder import UNFINISHED

FORMATS = {
    "pdparams": {"unified_checkpoint": False},
    "safetensors": {"unified_checkpoint": True},
    "adapter": {"unified_checkpoint": True, "lora": True, "lora_rank": 4},
}
STEPS = 5
_TRAIN = "paddle_flashmask.integrations.paddlenlp.train"


def train_once(config: str, log: str, file_limit: int | None, limited_from: int) -> None:
    """Train in this process. file_limit: bytes of the largest file that the disk takes after step `limited_from`."""
    warnings.simplefilter("ignore")
    with open(log, "a", buffering=1, encoding="utf-8") as lines:
        os.dup2(lines.fileno(), 2)
        from paddlenlp.utils.log import logger

        from paddle_flashmask.integrations.paddlenlp.train import train

        logger.set_level("ERROR")

        def write(line: str) -> None:
            lines.write(line + "\n")
            if file_limit is not None and line.startswith(f"step {limited_from}/"):
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))

        train(config, write=write)


class KilledRuns:
    """Cases of one configuration each, and their uninterrupted runs."""

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        self.random = random.Random(seed)
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload([_TRAIN, "paddle_flashmask.integrations.paddlenlp.run"])
        self.whole: dict[str, tuple[dict[str, np.ndarray], float]] = {}
        self.kills = self.limits = self.continued = 0

    def check(self, name: str, config: dict) -> None:
        """Interrupt a run up to three times, by a kill or a full disk, and compare its end with the whole run's."""
        expected, seconds = self._whole_run(name, config)
        path, out = self._place(config, f"{name}-killed")
        for _ in range(self.random.randint(1, 3)):
            limit = None
            if self.random.random() < 0.3:
                limit = int(10 ** self.random.uniform(4, 5.5))
                self.limits += 1
            process = self._start(path, limit)
            if limit is None:
                self._wait(process, out, seconds)
            else:
                process.join()
            if process.is_alive():
                process.kill()
                self.kills += 1
            process.join()
            self._check_folder(out)
        before = [line for line in self._log(path) if "resuming from" in line]
        last = self._last_checkpoint(out)
        self._run_to_end(path)
        resumed = [line for line in self._log(path) if "resuming from" in line][len(before) :]
        finished = any("nothing to do" in line for line in self._log(path))
        assert finished or bool(resumed) == (last is not None), (name, resumed, last)
        assert not resumed or f"{last}; set" in resumed[0], (name, resumed, last)
        self.continued += bool(resumed)
        found = weights_in(out)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, err_msg=f"{name} {key}")
        shutil.rmtree(path.parent)

    def _whole_run(self, name: str, config: dict) -> tuple[dict[str, np.ndarray], float]:
        if name not in self.whole:
            path, out = self._place(config, f"{name}-whole")
            started = time.perf_counter()
            self._run_to_end(path)
            self.whole[name] = weights_in(out), time.perf_counter() - started
        return self.whole[name]

    def _place(self, config: dict, name: str) -> tuple[Path, Path]:
        folder = self.folder / name
        folder.mkdir()
        values = {**config, **SAVING, "max_steps": STEPS, "save_steps": 1, "output_dir": str(folder / "out")}
        (folder / "config.json").write_text(json.dumps(values))
        return folder / "config.json", folder / "out"

    def _start(self, path: Path, limit: int | None = None):
        arguments = (str(path), str(path.with_name("log")), limit, self.random.randint(1, STEPS))
        process = self.processes.Process(target=train_once, args=arguments)
        process.start()
        return process

    def _wait(self, process, out: Path, seconds: float) -> None:
        """Wait for a random moment of the run, or of the time in which it writes a random checkpoint or its model."""
        if self.random.random() < 0.4:
            process.join(self.random.uniform(0.1, seconds))
            return
        name = self.random.choice([*(f"checkpoint-{step}" for step in range(1, STEPS + 1)), "model"])
        while process.is_alive() and not (out / UNFINISHED / name).exists():
            process.join(0.002)
        process.join(self.random.uniform(0, 0.06))

    def _run_to_end(self, path: Path) -> None:
        process = self._start(path)
        process.join()
        assert process.exitcode == 0, "\n".join(self._log(path)[-30:])

    def _log(self, path: Path) -> list[str]:
        log = path.with_name("log")
        return log.read_text(errors="replace").splitlines() if log.exists() else []

    def _last_checkpoint(self, out: Path) -> Path | None:
        steps = [int(path.name.partition("-")[2]) for path in out.glob("checkpoint-*")]
        return out / f"checkpoint-{max(steps)}" if steps else None

    def _check_folder(self, out: Path) -> None:
        """Every checkpoint in sight is complete, and the model is too."""
        for checkpoint in out.glob("checkpoint-*"):
            sizes = json.loads((checkpoint / "checkpoint.json").read_text())["files"]
            assert {name: (checkpoint / name).stat().st_size for name in sizes} == sizes, checkpoint
        if (out / "finished.json").exists():
            weights_in(out)
