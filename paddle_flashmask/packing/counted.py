"""Numbers with their nouns in reports."""

from __future__ import annotations


def counted(number: int, noun: str, form: str = "", plural: str | None = None) -> str:
    """The number and the noun. form: of the number, as in `format`. plural: of the noun, by default with an s."""
    return f"{number:{form}} {noun if number == 1 else plural or f'{noun}s'}"
