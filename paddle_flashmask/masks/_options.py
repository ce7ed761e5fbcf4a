"""Options of the mask builders on a command line: their text, and their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Form:
    """The written form of a builder argument.

    Attributes:
        sample: text of this form, for help and error messages.
        separators: what separates the items of a list, then those of the lists in it; "" for a single integer.
        one_is_integer: whether a list of one item is read as an integer.
        words: the allowed words, for an argument that is not a number.
    """

    sample: str
    separators: str = ""
    one_is_integer: bool = False
    words: tuple[str, ...] = ()

    def read(self, text: str) -> Any:
        """Return the value of ``text``: an integer, a list, a list of lists or a word. ValueError for another form."""
        try:
            value = self._read_word(text) if self.words else _read(text, self.separators)
        except ValueError:
            raise ValueError(f"{text!r} is not of the form {self.sample}") from None
        return value[0] if self.one_is_integer and len(value) == 1 else value

    def write(self, value: Any) -> str:
        """Return the text of ``value``; ``read`` gives the value back, with lists for tuples."""
        return str(value) if isinstance(value, (int, str)) else _write(value, self.separators)

    def _read_word(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(text)
        return text


def _read(text: str, separators: str) -> Any:
    if not separators:
        return int(text)
    return [_read(item, separators[1:]) for item in text.split(separators[0])]


def _write(value: Any, separators: str) -> str:
    return separators[0].join(_write(item, separators[1:]) for item in value) if separators else str(value)


@dataclass(frozen=True)
class Option:
    """One argument of a builder, and the option ``--flag`` that gives it on a command line."""

    flag: str
    parameter: str
    form: Form
    help: str


INTEGER = Form("N")
INTEGERS = Form("4,3,3", ",")
INTEGER_OR_PAIR = Form("N or L,R", ",", one_is_integer=True)
LISTS = Form("4+3+3,5+2", ",+")
PAIRS = Form("2:3,6:2", ",:")

SEQLEN = Option("seqlen", "seqlen", INTEGER, "Sequence length (with --docs: their total by default).")
LENGTH = Option("length", "length", INTEGER, "Tokens that are not padding (default: all).")
DOCUMENTS = Option("docs", "documents", INTEGERS, "Document lengths.")
PADDING = Option(
    "padding", "padding", Form("hidden or document", words=("hidden", "document")), "Tokens after the last document."
)
SEED = Option("seed", "seed", INTEGER, "Seed of a random mask (default 0).")
