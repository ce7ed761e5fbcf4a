"""Rows written in every file format that is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet

from paddle_flashmask.integrations.paddlenlp.data.formats.csv_text import JSON_KEYS


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_array(path: Path, rows: list[dict]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_with_all_keys(rows)), path, row_group_size=7)


def write_saved(path: Path, rows: list[dict]) -> None:
    datasets.Dataset.from_list(_with_all_keys(rows)).save_to_disk(path)


def write_csv(path: Path, rows: list[dict]) -> None:
    """Rows of one form: a cell can be empty, but not absent."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([json.dumps(row[key]) if key in JSON_KEYS else row[key] for key in columns])


WRITERS: dict[str, Callable[[Path, list[dict]], None]] = {
    ".jsonl": write_lines,
    ".json": write_array,
    ".parquet": write_parquet,
    ".csv": write_csv,
    "": write_saved,
}
"""The ending of a name -> a function that writes rows to a path with that ending; "" is a folder of `datasets`."""


def _with_all_keys(rows: list[dict]) -> list[dict]:
    """Rows with the keys of all of them, null where a row has none."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]
