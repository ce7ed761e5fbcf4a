"""Two processes of Paddle's launcher, data parallel over Gloo, give the losses of one process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paddle_flashmask.integrations.paddlenlp.errors import DataError
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS
from paddle_flashmask.integrations.paddlenlp.train import train
from paddle_flashmask.integrations.paddlenlp.trainer import SeededBatchSampler, StreamLoader

SCRIPT = Path(sys.executable).with_name("paddle-flashmask")
PROGRAM = Path(__file__).with_name("data_parallel_rank.py")
FIGURES = (
    *("loss", "accuracy", "margin", "rewards/accuracies", "rewards/margins", "ratio", "clipped", "kl"),
    *("eval_loss", "eval_accuracy", "eval_kl"),
)
DATA_PARALLEL = {"tensor_parallel_degree": 1, "sharding": "", "load_best_model_at_end": False, "max_steps": 5}


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(program: str | Path, arguments: list, folder: Path) -> list[str]:
    """The command that launches two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--nproc_per_node", "2", "--master", f"127.0.0.1:{port}", "--log_dir", str(folder / "log")]
    return [sys.executable, "-m", "paddle.distributed.launch", *options, str(program), *map(str, arguments)]


def launch(program: str | Path, arguments: list, folder: Path) -> str:
    """Launch two processes and return the log of the first."""
    launched = command(program, arguments, folder)
    done = subprocess.run(launched, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)
    log = (folder / "log" / "workerlog.0").read_text(errors="replace")
    assert done.returncode == 0, done.stderr[-2000:] + log[-4000:]
    return log


def write(config: dict, folder: Path) -> Path:
    """Write the configuration, with an output_dir beside its file."""
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps({**config, **DATA_PARALLEL, "output_dir": str(folder / "out")}))
    return path


def summary(path: Path) -> dict:
    return json.loads((path.parent / "out" / "training_summary.json").read_text())


def figures(entries: list[dict]) -> list[dict]:
    return [{key: entry[key] for key in FIGURES if key in entry} for entry in entries]


def compare(two: dict, one: dict) -> None:
    assert len(two["losses"]) == 5
    for name in ("metrics", "evaluations"):
        for ours, theirs in zip(figures(two[name]), figures(one[name]), strict=True):
            assert ours.keys() == theirs.keys()
            np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-5, atol=1e-7, err_msg=name)
    assert two["tokens"] == one["tokens"]
    assert two["packing"] == one["packing"]


def test_every_task_has_the_losses_of_one_process(task_config, tmp_path):
    cases = dict.fromkeys(TASKS, {}) | {
        "sft": {"lazy": False, "per_device_train_batch_size": 2},
        "sft-lora": {"lora": True, "lora_rank": 4},
        "dpo": {"lazy": False},
        "dpo-lora": {"lora": True, "lora_rank": 4},
        "rm": {"lazy": False},
    }
    ones, twos = [], []
    for name, options in cases.items():
        config = {**task_config(name.partition("-")[0]), **options}
        ones.append(write({**config, "gradient_accumulation_steps": 2}, tmp_path / f"{name}-one"))
        twos.append(write({**config, "gradient_accumulation_steps": 1}, tmp_path / f"{name}-two"))
    for path in ones:
        train(path, write=lambda line: None)
    log = launch(PROGRAM, twos, tmp_path)
    assert log.count("2 processes, data parallel") == len(cases)
    for one, two in zip(ones, twos, strict=True):
        compare(summary(two), summary(one))


def test_the_console_script_streams_evaluates_and_resumes(sft_config, tmp_path):
    options = {
        "lazy": True,
        "do_eval": True,
        "evaluation_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 5,
    }
    one = write({**sft_config, **options, "gradient_accumulation_steps": 4}, tmp_path / "one")
    train(one, write=lambda line: None)
    config = {**sft_config, **options, "gradient_accumulation_steps": 2}
    two = write(config, tmp_path / "two")
    log = launch(SCRIPT, ["train", two], tmp_path)
    assert "step 5/5" in log
    compare(summary(two), summary(one))
    assert "step 5/5" not in (tmp_path / "log" / "workerlog.1").read_text(errors="replace")
    assert "nothing to do" in launch(SCRIPT, ["train", two], tmp_path)

    resumed = write(
        {**config, "resume_from_checkpoint": str(two.parent / "out" / "checkpoint-2")}, tmp_path / "resumed"
    )
    launch(SCRIPT, ["train", resumed], tmp_path)
    assert [step for step, _ in summary(resumed)["losses"]] == [3, 4, 5]
    losses = [[loss for _, loss in summary(path)["losses"]] for path in (resumed, two)]
    np.testing.assert_allclose(losses[0], losses[1][2:], rtol=1e-5)


def test_a_signal_to_one_process_stops_both_with_a_checkpoint(sft_config, tmp_path):
    options = {"lazy": False, "gradient_accumulation_steps": 1, "save_strategy": "steps", "save_steps": 100}
    stopped = write({**sft_config, **options}, tmp_path / "stopped")
    stopped.write_text(json.dumps({**json.loads(stopped.read_text()), "max_steps": 40}))
    launched = command(SCRIPT, ["train", stopped], stopped.parent)
    running = subprocess.Popen(launched, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    first_log = stopped.parent / "log" / "workerlog.0"
    wait_until(lambda: first_log.exists() and "step 2/40" in first_log.read_text(errors="replace"))
    workers = [pid_of(rank, running.pid) for rank in (0, 1)]
    os.kill(workers[1], signal.SIGTERM)
    wait_until(lambda: all(is_over(pid) for pid in workers))
    running.kill()  # it waits half a minute for processes that are gone
    running.wait()
    log = first_log.read_text(errors="replace")
    saved = re.search(r"stopped by SIGTERM after step (\d+) of 40: saved checkpoint-(\d+)", log)
    assert saved and saved[1] == saved[2]
    assert "continue" in launch(SCRIPT, ["train", stopped], tmp_path)
    assert [step for step, _ in summary(stopped)["losses"]] == list(range(int(saved[1]) + 1, 41))


def test_a_killed_process_ends_the_run_which_can_be_continued(sft_config, tmp_path):
    options = {"lazy": False, "gradient_accumulation_steps": 1, "save_strategy": "steps", "save_steps": 2}
    killed = write({**sft_config, **options}, tmp_path / "killed")
    killed.write_text(json.dumps({**json.loads(killed.read_text()), "max_steps": 30}))
    launched = command(SCRIPT, ["train", killed], killed.parent)
    running = subprocess.Popen(launched, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    first_log = killed.parent / "log" / "workerlog.0"
    wait_until(lambda: first_log.exists() and "step 3/30" in first_log.read_text(errors="replace"))
    os.kill(pid_of(1, running.pid), signal.SIGKILL)
    assert running.wait(60) != 0
    log = launch(SCRIPT, ["train", killed], tmp_path)
    resumed = re.search(r"resuming from \S+/checkpoint-(\d+)", log)
    assert [step for step, _ in summary(killed)["losses"]] == list(range(int(resumed[1]) + 1, 31))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_over(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def pid_of(rank: int, launcher: int) -> int:
    """The process of a rank among the launcher's children."""
    for children in Path(f"/proc/{launcher}/task").glob("*/children"):
        for child in children.read_text().split():
            environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            if f"PADDLE_TRAINER_ID={rank}".encode() in environment:
                return int(child)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.parametrize("packs", [7, 8, 12, 13])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_no_pack_is_taken_twice_in_an_epoch(packs, processes):
    """Steps of two micro-batches per process equal those of one process with as many micro-batches as all together."""
    options = {"seed": 3, "batch_size": 1, "shuffle": True}
    alone = SeededBatchSampler(range(packs), accumulated=2 * processes, num_replicas=1, rank=0, **options)
    ranks = [
        SeededBatchSampler(range(packs), accumulated=2, num_replicas=processes, rank=rank, **options)
        for rank in range(processes)
    ]
    for sampler in (alone, *ranks):
        sampler.set_epoch(4)
    turns = list(zip(*ranks, strict=True))
    assert [batch for turn in turns for batch in turn] == list(alone)
    assert len(turns) == len(ranks[0]) == packs // (2 * processes) * 2


def test_processes_share_a_stream(monkeypatch):
    monkeypatch.setattr("paddle.to_tensor", lambda value: value)
    loaders = [StreamLoader(range(13), 2, lambda batch: {"packs": batch}, 1, 2, rank) for rank in range(2)]
    batches = [[batch["packs"] for batch in loader] for loader in loaders]
    assert batches == [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7], [10, 11]]]
    with pytest.raises(DataError, match="fewer than gradient_accumulation_steps = 2 on each of 2 processes"):
        list(StreamLoader(range(3), 1, lambda batch: {}, 2, 2, 0))
