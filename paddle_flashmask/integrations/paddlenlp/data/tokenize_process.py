"""The process that `parallel` starts: it converts chunks of lines until the connection closes."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from ..errors import RunError
from .line_tokens import LineTokens, outcome_of


def serve(descriptor: int) -> None:
    """Read the rows to convert and the source of their tokenizer, then chunks of lines, and answer each.

    A tokenizer that is not the one of the other process is answered with the error.

    descriptor: of the connection, open in this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that reads the answers
    connection = Connection(descriptor)
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # Messages are taken at once: this process may be sending an answer while the other sends the next chunk.
    threading.Thread(target=_take_messages, args=(connection, messages), daemon=True).start()
    try:
        rows = _rows_of(messages.get())
    except RunError as error:
        connection.send(error)
        return
    connection.send(None)
    while True:
        connection.send([outcome_of(rows, record, place) for record, place in pickle.loads(messages.get())])


def _take_messages(connection: Connection, messages: queue.SimpleQueue[bytes]) -> None:
    try:
        while True:
            messages.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)  # the other process has ended


def _rows_of(setup: bytes) -> LineTokens:
    from paddlenlp.utils.log import logger

    logger.set_level("ERROR")
    rows: Any
    rows, source = pickle.loads(setup)
    return replace(rows, tokenizer=source.load())
