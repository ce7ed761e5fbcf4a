"""The bar shows the figures of the lines, tears none of them, and stays away where there is no terminal."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import sys
import termios
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from paddle_flashmask.integrations.paddlenlp import RunError, train
from paddle_flashmask.integrations.paddlenlp.progress import ProgressLines
from paddle_flashmask.integrations.paddlenlp.progress_bar import ProgressBar


class Terminal(io.StringIO):
    """What a run writes to a terminal, standard output and errors together."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines that remain in view: a carriage return writes over a line, and tqdm moves up to an earlier one."""
        lines, row, column = [""], 0, 0
        for piece in re.findall(r"\x1b\[A|\r|\n|[^\r\n\x1b]+", self.getvalue()):
            if piece == "\x1b[A":
                row, column = row - 1, 0
            elif piece == "\n":
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            elif piece == "\r":
                column = 0
            else:
                lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
                column += len(piece)
        return [line.rstrip() for line in lines]


@pytest.fixture
def attach(monkeypatch) -> Callable[[], Terminal]:
    """A function that makes a terminal of the standard streams; pytest sets them again after it has made fixtures."""

    def make() -> Terminal:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        return terminal

    return make


@pytest.fixture
def config(sft_config) -> dict:
    evaluated = {"evaluation_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 1}
    return {**sft_config, **evaluated, "lazy": False, "load_best_model_at_end": False, "disable_tqdm": False}


def test_lines_stay_whole_above_the_bar(config, attach):
    terminal = attach()
    lines: list[str] = []

    def write(line: str) -> None:
        lines.append(line)
        print(line)

    result = train(config, write=write)
    screen = terminal.screen()
    bars = [line for line in screen if "%|" in line]
    assert [line for line in screen if line and line not in bars] == lines
    assert len(bars) == 1 and bars[0].startswith("training: 100%|") and "3/3 steps [" in bars[0]
    rate = re.search(r"([\d,]+) tokens/s", [line for line in lines if line.startswith("step 3/3  loss")][0])[1]
    assert bars[0].endswith(f"{rate} tokens/s, loss {result.losses[-1][1]:.4f}]")
    shown = terminal.getvalue()
    assert re.search(r"1/3 steps \[\d\d:\d\d<\d\d:\d\d", shown) and re.search(
        r"evaluation: 100%\|.*\d/\d batches", shown
    )


def test_the_rate_is_that_of_document_tokens():
    progress = ProgressLines(lambda line: None)
    progress.tokens, progress.step_seconds = 600, [1.0, 2.0]
    assert progress.tokens_per_second() == 200


def test_a_resumed_run_goes_on_where_it_was(config, attach):
    terminal = attach()
    saved = {"save_strategy": "steps", "save_steps": 2, "evaluation_strategy": "no", "save_total_limit": 2}
    train({**config, **saved, "max_steps": 2}, write=print)
    train({**config, **saved, "max_steps": 4}, write=print)
    assert "training:  50%" in terminal.getvalue() and "2/4 steps" in terminal.getvalue()


def test_an_error_leaves_no_bar_open(config, attach):
    terminal = attach()

    def write(line: str) -> None:
        if "loss" in line:
            raise RunError("stopped by the test")

    with pytest.raises(RunError, match="stopped by the test"):
        train(config, write=write)
    print("the next line", file=sys.stderr)
    assert terminal.screen()[-2:] == ["the next line", ""]


def test_no_bar_without_a_terminal_or_with_disable_tqdm(config, attach, monkeypatch):
    terminal = attach()
    train({**config, "disable_tqdm": True, "max_steps": 1}, write=lambda line: None)
    assert "%|" not in terminal.getvalue()
    monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    train({**config, "overwrite_output_dir": True, "max_steps": 1}, write=lambda line: None)
    assert "%|" not in terminal.getvalue()


@pytest.mark.parametrize("columns", [0, 60])
def test_a_terminal_without_a_width_shows_the_bar_too(columns):
    """In a pseudo-terminal, as in a container whose terminal has no size."""
    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 20 * bool(columns), columns, 0, 0))
    with os.fdopen(writing, "w") as file:
        state = SimpleNamespace(max_steps=4, global_step=0)
        with ProgressBar(ProgressLines(lambda line: None), file) as bar:
            bar.on_train_begin(None, state, None)
        shown = os.read(reading, 10_000).decode()
    os.close(reading)
    (line,) = {line for line in shown.strip().split("\r") if line.strip()}
    assert line.startswith("training:   0%|") and "0/4 steps" in line and 50 < len(line) <= (columns or 80)
