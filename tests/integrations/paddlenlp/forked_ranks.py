"""Processes of one distributed run on the CPU, forked from a server that has imported PaddleNLP."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from multiprocessing import connection
from pathlib import Path

PRELOADED = ["paddle_flashmask.integrations.paddlenlp.train", "paddle_flashmask.integrations.paddlenlp.run"]


def train_together(configs: Sequence[Path], processes: int, folder: Path, verified: bool = False) -> None:
    """Train from the configurations one after the other, which all divide the run alike. Logs are in `folder`.

    verified: verify the configurations in place of training, and print the reports.

    Raises AssertionError, with a log, if a process fails.
    """
    endpoints = [f"127.0.0.1:{port}" for port in _free_ports(processes)]
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    logs = [folder / f"rank{rank}.log" for rank in range(processes)]
    ranks = [
        server.Process(target=_rank, args=(rank, endpoints, str(log), list(map(str, configs)), verified))
        for rank, log in enumerate(logs)
    ]
    for rank in ranks:
        rank.start()
    deadline = time.monotonic() + 240
    # Like a launcher: the first failure ends the run, whose other ranks may wait for the failed one.
    while (alive := [rank.sentinel for rank in ranks if rank.is_alive()]) and not any(rank.exitcode for rank in ranks):
        if not connection.wait(alive, timeout=deadline - time.monotonic()):
            break
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
    failed = next((log for log, code in zip(logs, codes, strict=True) if code), logs[0])
    assert codes == [0] * processes, f"exit codes {codes}\n{failed.read_text(errors='replace')[-4000:]}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _rank(rank: int, endpoints: list[str], log: str, configs: list[str], verified: bool) -> None:
    warnings.simplefilter("ignore")
    os.environ.update(
        PADDLE_RANK_IN_NODE=str(rank),
        PADDLE_TRAINER_ID=str(rank),
        PADDLE_TRAINERS_NUM=str(len(endpoints)),
        PADDLE_CURRENT_ENDPOINT=endpoints[rank],
        PADDLE_TRAINER_ENDPOINTS=",".join(endpoints),
        PADDLE_MASTER=endpoints[0],
        PADDLE_DISTRI_BACKEND="gloo",
        FLAGS_selected_gpus="",
    )
    with open(log, "w", buffering=1, encoding="utf-8") as lines:
        os.dup2(lines.fileno(), 1)
        os.dup2(lines.fileno(), 2)
        sys.stdout = sys.stderr = lines
        import paddle.distributed as dist
        from paddle.distributed import parallel
        from paddlenlp.utils.log import logger

        from paddle_flashmask.integrations.paddlenlp.train import train
        from paddle_flashmask.integrations.paddlenlp.verification.configuration import verify_config

        parallel._global_parallel_env = None  # the server had one process
        logger.set_level("ERROR")
        try:
            for config in configs:
                print(verify_config(config, write=print)) if verified else train(config, write=print)
            dist.barrier()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)  # Gloo's threads sometimes abort while the interpreter ends
