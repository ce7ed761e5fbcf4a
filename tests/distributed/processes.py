"""Ranks of a process group over Gloo, each a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from support.repository import REPOSITORY


class Ranks:
    """Running processes of `python PROGRAM ARGUMENTS`, with their logs in a folder."""

    def __init__(self, ranks: int, program: Path, arguments: list, folder: Path) -> None:
        ports = _free_ports(ranks + 1)
        endpoints = [f"127.0.0.1:{port}" for port in ports[1:]]
        shared = {
            "PADDLE_MASTER": f"127.0.0.1:{ports[0]}",
            "PADDLE_TRAINERS_NUM": str(ranks),
            "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}",
            "PADDLE_DISTRI_BACKEND": "gloo",
            "OMP_NUM_THREADS": "1",
        }
        self.logs = [folder / f"rank{rank}.log" for rank in range(ranks)]
        self.processes = []
        for rank, (endpoint, log) in enumerate(zip(endpoints, self.logs, strict=True)):
            own = {"PADDLE_TRAINER_ID": str(rank), "PADDLE_CURRENT_ENDPOINT": endpoint}
            with log.open("w") as output:
                command = [sys.executable, str(program), *map(str, arguments)]
                environment = {**os.environ, **shared, **own}
                self.processes.append(
                    subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
                )

    def wait(self, seconds: float) -> list[int]:
        """Return the exit codes; processes that still run after `seconds` are killed and fail the test."""
        try:
            return [process.wait(timeout=seconds) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def log(self) -> str:
        """Return the last lines of every rank."""
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in self.logs)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports
