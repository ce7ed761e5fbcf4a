"""Readers of data files, one module per format. Nothing is read from the network, and no copy is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..lines import Line
from .arrow import count_parquet, read_parquet
from .csv_text import read_csv
from .json_text import read_json

READERS: dict[str, Callable[[Path], Iterator[Line]]] = {
    ".json": read_json,
    ".jsonl": read_json,
    ".parquet": read_parquet,
    ".csv": read_csv,
}
"""The ending of a file's name -> a function that reads its rows one after the other."""
COUNTERS: dict[str, Callable[[Path], int]] = {".parquet": count_parquet}
"""The ending of a file's name -> a function that counts its rows without reading them."""
