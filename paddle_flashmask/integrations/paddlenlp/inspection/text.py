"""An inspection as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .inspect import DecodedBatch, DecodedPart, Inspection

DOCUMENTS = 4
"""Documents of a pack that are shown."""
CHARACTERS = 600
"""Characters of a span that are shown."""


def lines_of(inspection: Inspection, mark: Callable[[str], str]) -> Iterator[str]:
    """The facts, then the mask and the first documents of every pack of the decoded batches.

    mark: highlights learned text.
    """
    width = max(len(name) for name, _ in inspection.facts)
    yield from (f"{name:{width}}  {text}" for name, text in inspection.facts)
    for number, batch in enumerate(inspection.batches, start=1):
        for row, documents in enumerate(batch.packs):
            yield ""
            yield f"batch {number}, pack {row + 1} of {len(batch.packs)}, documents: {len(documents)}"
            yield from _mask_lines(batch, row)
            for place, document in enumerate(documents[:DOCUMENTS], start=1):
                for part in document:
                    yield f"[{place}] {part.name}, {part.tokens} tokens"
                    yield from ("    " + line for line in _text(part, mark).split("\n"))
            if len(documents) > DOCUMENTS:
                yield f"... and {len(documents) - DOCUMENTS} more; --html shows all"


def _mask_lines(batch: DecodedBatch, row: int) -> Iterator[str]:
    lines = batch.mask.to_text(batch=row).split("\n")
    width = len(lines[0])
    yield f"mask, {batch.mask.seqlen_q} queries down, {batch.mask.seqlen_k} keys across:"
    yield "+" + "-" * width + "+"
    yield from (f"|{line}|" for line in lines)
    yield "+" + "-" * width + "+"


def _text(part: DecodedPart, mark: Callable[[str], str]) -> str:
    shown = []
    for text, learned in part.spans:
        text = _shortened(text)
        shown.append("\n".join(mark(line) if line else "" for line in text.split("\n")) if learned else text)
    return "".join(shown)


def _shortened(text: str) -> str:
    half = CHARACTERS // 2
    return text if len(text) <= CHARACTERS else f"{text[:half]} ... {text[-half:]}"
