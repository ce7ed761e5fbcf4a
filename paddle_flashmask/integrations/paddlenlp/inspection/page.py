"""An inspection as a web page in one file."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

from .inspect import DecodedBatch, DecodedPart, Inspection

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } th { text-align: left; vertical-align: top; padding-right: 1.5rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #eef1f5; padding: .6rem; margin: .2rem 0 .8rem }
mark { background: #bfe3c0; color: inherit } h3 { margin-bottom: .2rem } img { max-width: 32rem }
"""


def write_page(inspection: Inspection, path: Path) -> None:
    """Write the facts and the decoded batches whole, learned text marked, with a picture of every mask.

    Raises ImportError without matplotlib, which draws the masks, and OSError where the file cannot be written.
    """
    path.write_text("\n".join(_page(inspection)), encoding="utf-8")


def _page(inspection: Inspection) -> Iterator[str]:
    yield f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{inspection.task}</title>'
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>What {escape(inspection.task)} would train on</h1><table>"
    yield from (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in inspection.facts)
    yield "</table><p>Learned text is <mark>marked</mark>.</p>"
    for number, batch in enumerate(inspection.batches, start=1):
        for row, documents in enumerate(batch.packs):
            yield f"<h2>Batch {number}, pack {row + 1}, documents: {len(documents)}</h2>"
            yield f'<img alt="The mask of this pack" src="data:image/svg+xml;base64,{_picture(batch, row)}">'
            for place, document in enumerate(documents, start=1):
                yield f"<h3>{place}</h3>"
                yield from (_part(part) for part in document)
    yield "</body></html>"


def _part(part: DecodedPart) -> str:
    spans = (f"<mark>{escape(text)}</mark>" if learned else escape(text) for text, learned in part.spans)
    return f"<div>{escape(part.name)}, {part.tokens} tokens</div><pre>{''.join(spans)}</pre>"


def _picture(batch: DecodedBatch, row: int) -> str:
    """The mask of a pack as SVG, in base64: as an image of its own it shares no element names with the others."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.svg"
        batch.mask.plot(path, batch=row)
        return base64.b64encode(path.read_bytes()).decode("ascii")
