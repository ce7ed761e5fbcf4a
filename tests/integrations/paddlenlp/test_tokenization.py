"""Rows turned into tokens by several processes are those of one, in the same order, with the same errors and counts."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import write_rows

from paddle_flashmask.integrations.paddlenlp.data import parallel, tokenization
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.line_tokens import outcome_of
from paddle_flashmask.integrations.paddlenlp.data.tokenization import Tokenization, usable_processes
from paddle_flashmask.integrations.paddlenlp.errors import ConfigError, DataError, RunError
from paddle_flashmask.integrations.paddlenlp.inputs import RunInputs, read_task
from paddle_flashmask.integrations.paddlenlp.loading import TokenizerSource
from paddle_flashmask.integrations.paddlenlp.tasks import TASKS

LONG = "one two three four five six seven eight nine ten " * 12
GOOD = {
    "sft": [{"src": "a", "tgt": "b"}, {"src": LONG, "tgt": "c"}],
    "dpo": [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"src": [LONG, "b"], "tgt": [LONG], "response": ["c", "d"], "sort": [1, 0]},
    ],
    "rm": [{"src": "a", "response": ["b", "c", "d"], "sort": [3, 2, 1]}],
    "kto": [{"prompt": "a", "completion": "b", "label": True}, {"prompt": "b", "completion": "c", "label": False}],
    "policy": [
        {"prompt": "a", "answers": ["b", "c"], "advantages": [1, -0.1]},
        {"prompt": LONG, "answers": ["b"], "advantages": [2]},
    ],
}
BAD = ["{", "{}", '{"src": "a"}', '"a"']


class ThreadedProcess(parallel._Process):
    """The same connection, with a thread at the other end."""

    def __init__(self, setup: bytes):
        here, there = parallel.socket.socketpair()
        self._connection = Connection(here.detach())
        threading.Thread(target=self._serve, args=(Connection(there.detach()),), daemon=True).start()
        self.send_bytes(setup)

    @staticmethod
    def _serve(connection: Connection) -> None:
        rows, source = pickle.loads(connection.recv_bytes())
        rows.tokenizer = source.load()
        connection.send(None)
        try:
            while True:
                connection.send([outcome_of(rows, line, place) for line, place in connection.recv()])
        except (EOFError, OSError):
            connection.close()

    def end(self) -> None:
        self._connection.close()


class Loaded:
    """A source of a tokenizer that is in memory."""

    name, tokenizer = "in memory", None

    def load(self):
        return Loaded.tokenizer


def inputs_of(config_of, task: str, path: Path, lines: list, **changes) -> RunInputs:
    """The inputs of a run on these lines."""
    data = path / "train.json"
    data.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    key = "dataset_name_or_path" if task in ("sft", "policy") else "train_dataset_path"
    values = {**config_of(task), key: str(path if task in ("sft", "policy") else data), "lazy": False, **changes}
    config = path / f"{task}.json"
    config.write_text(json.dumps(values))
    return RunInputs.load(*read_task(config, (), lambda line: None), lambda line: None)


def read(rows, patience: float | None = None, processes: int = 1) -> tuple:
    """All rows, the cut ones, the error."""
    rows.reader.processes = processes
    rows.reader.patience = parallel.PATIENCE if patience is None else patience
    found = []
    try:
        found.extend(rows.checked())
    except DataError as error:
        return found, str(error)
    return found, rows.cut_rows


@pytest.fixture
def when_ready(monkeypatch):
    """Lets the reading wait for the processes, as a long file would."""
    are_ready = parallel._Processes.are_ready

    def wait(self):
        while not are_ready(self):
            time.sleep(0.01)
        return True

    monkeypatch.setattr(parallel._Processes, "are_ready", wait)


def check_two_processes(task: str, task_config, path: Path) -> None:
    lines = GOOD[task] * 40
    rows = inputs_of(task_config, task, path, lines).rows("train")
    one = read(rows)
    assert one[0] and one[1] == sum("one two" in json.dumps(line) for line in lines)
    assert read(rows, 0, 2) == one


def check_errors_of_two_processes(task: str, task_config, path: Path) -> None:
    lines = GOOD[task] * 40
    rows = inputs_of(task_config, task, path, [*lines[:40], *BAD * 8, *lines]).rows("train")
    one = read(rows)
    assert "32 rows cannot be used:" in one[1]
    assert read(rows, 0, 2) == one


def test_two_processes_read_what_one_reads(task_config, when_ready, tmp_path):
    """KTO takes answers from other rows, and its rows need the modules of the tasks."""
    check_two_processes("kto", task_config, tmp_path)


@pytest.mark.parametrize("task", TASKS)
def test_two_threads_read_what_one_process_reads(task, task_config, monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "_Process", ThreadedProcess)
    check_two_processes(task, task_config, tmp_path)
    check_errors_of_two_processes(task, task_config, tmp_path)


class Interrupted(SFTLines):
    """Lines that cannot be read from number `end` on."""

    end = None

    def lines(self):
        for number, line in enumerate(super().lines()):
            if number == Interrupted.end:
                raise DataError("the file ends here")
            yield line


@settings(max_examples=30, deadline=None)
@given(
    lines=st.lists(st.sampled_from([*GOOD["sft"], *BAD]), max_size=60),
    more=st.integers(0, 200),
    processes=st.integers(1, 5),
    chunk=st.integers(1, 40),
    end=st.sampled_from([None, 0, 7, 90]),
    every_error=st.booleans(),
)
def test_any_number_of_processes(lines, more, processes, chunk, end, every_error, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    text = [line if isinstance(line, str) else json.dumps(line) for line in [*lines, *GOOD["sft"] * more]]
    (folder / "train.json").write_text("\n".join(text) + "\n")
    Loaded.tokenizer, Interrupted.end = tokenizer, end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "_Process", ThreadedProcess)
        patch.setattr(parallel, "CHUNK", chunk)
        results = []
        for reader in (None, Tokenization(Loaded(), processes, patience=0)):
            rows = SFTTokens(Interrupted(str(folder), "train"), tokenizer, 40, 64)
            rows.reader = reader
            found = []
            try:
                found.extend(rows.checked() if every_error else rows)
            except DataError as error:
                found.append(str(error))
            results.append((found, rows.cut_rows))
        assert results[0] == results[1]


@pytest.fixture
def many_rows(tokenizer, tmp_path):
    """Rows of a file that is too long to be read before the processes have started."""
    write_rows(tmp_path / "train.json", GOOD["sft"][:1] * 20000)
    source = tmp_path / "tokenizer"
    tokenizer.save_pretrained(str(source))
    rows = SFTTokens(SFTLines(str(tmp_path), "train"), tokenizer, 40, 64)
    rows.reader = Tokenization(TokenizerSource(str(source), None))
    return rows


def by_a_process(rows):
    return parallel.converted(rows, rows.lines(), rows.reader.source, processes=1, patience=0)


def children() -> set[int]:
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True
    )
    return {int(line.split()[0]) for line in listed.stdout.splitlines() if "tokenize_process" in line}


def test_a_killed_process_is_named_and_none_is_left(many_rows, when_ready):
    rows = by_a_process(many_rows)
    for _ in range(100):
        next(rows)
    (process,) = children()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(RunError, match="killed by SIGKILL, perhaps because memory ran out.*tokenize_processes"):
        list(rows)
    assert not children()


def test_a_stream_that_is_left_ends_its_processes_and_reads_little_ahead(many_rows, when_ready):
    taken = 0
    lines = many_rows.lines

    def counted():
        nonlocal taken
        for line in lines():
            taken += 1
            yield line

    many_rows.lines = counted
    rows = by_a_process(many_rows)
    for read in range(1, 1000):
        next(rows)
        assert taken - read <= (parallel.IN_FLIGHT + 1) * parallel.CHUNK
    assert len(children()) == 1
    rows.close()
    assert not children()


def test_a_process_that_cannot_start_says_why(many_rows, when_ready):
    many_rows.reader.source = TokenizerSource("/nowhere/to be found", None)
    with pytest.raises(RunError, match="failed with exit status 1: .*/nowhere"):
        list(by_a_process(many_rows))
    assert not children()


def test_a_process_that_finds_another_tokenizer_ends_the_run(many_rows, when_ready, monkeypatch):
    """The files were changed after they were loaded here."""
    monkeypatch.setattr(
        tokenization, "converted", lambda *given: parallel.converted(*given[:3], processes=1, patience=0)
    )
    file = Path(many_rows.reader.source.name) / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation_side": "left"}))
    with pytest.raises(RunError, match=r"^the tokenizer .* has changed since the start: tokenizer_config.json; rows"):
        list(many_rows)
    assert not children()


SCRIPT = """
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it
from paddle_flashmask.integrations.paddlenlp.data.instructions import SFTLines, SFTTokens
from paddle_flashmask.integrations.paddlenlp.data.parallel import converted
from paddle_flashmask.integrations.paddlenlp.loading import TokenizerSource

source = TokenizerSource({source!r}, None)
rows = SFTTokens(SFTLines({folder!r}, "train"), source.load(), 40, 64)
for number, row in enumerate(converted(rows, rows.lines(), source, processes=1, patience=0)):
    if number == 20:
        print("started", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(many_rows, number, tmp_path):
    """The script has no `if __name__ == "__main__"`, and runs once."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(source=many_rows.reader.source.name, folder=str(tmp_path)))
    run = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout.readline() == "started\n"
    os.killpg(run.pid, number) if number == signal.SIGINT else run.kill()
    output, errors = run.communicate(timeout=60)
    assert output == "" and ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    for _ in range(100):
        left = subprocess.run(["ps", "-ww", "-o", "pid=", "-g", str(run.pid)], capture_output=True, text=True).stdout
        if not left.strip():
            return
        time.sleep(0.1)
    pytest.fail(f"processes are left: {left}")


def test_bar_where_standard_error_is_a_terminal(many_rows, monkeypatch, capsys):
    monkeypatch.setattr(parallel.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("paddle_flashmask.integrations.paddlenlp.data.tokenization.SHOWN_AFTER", 0)
    many_rows.reader = Tokenization(many_rows.reader.source, bar="tokenizing training data")
    list(many_rows)
    shown = capsys.readouterr().err
    assert "tokenizing training data" in shown and "/20000" in shown and "rows/s" in shown


def test_keys(task_config, tmp_path):
    inputs = inputs_of(task_config, "sft", tmp_path, GOOD["sft"], tokenize_processes=3, disable_tqdm=False)
    assert (reader := inputs.rows("train").reader).processes == 3 and reader.bar == "tokenizing training data"
    inputs = inputs_of(task_config, "kto", tmp_path, GOOD["kto"], disable_tqdm=True)
    assert (reader := inputs.rows("train").reader).processes == usable_processes(1) and reader.bar is None
    with pytest.raises(ConfigError, match="tokenize_processes = 0 must be at least 1"):
        inputs_of(task_config, "dpo", tmp_path, GOOD["dpo"], tokenize_processes=0)


def test_cores_are_shared_among_training_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    assert [usable_processes(count) for count in (1, 2, 5, 13)] == [8, 6, 2, 1]
