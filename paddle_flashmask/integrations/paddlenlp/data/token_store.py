"""Rows of tokens on the disk, as flat arrays that are mapped into memory.

A row is a dict of lists and numbers. Its form, such as {"input_ids": "integers", "weight": "number"}, is stored once
for all rows alike; its values follow those of the row before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..digests import sha256_of
from .line_tokens import TokenRow

MANIFEST = "manifest.json"
_STREAMS = {"forms": np.int32, "cut_rows": np.int32, "sizes": np.int32, "integers": np.int32, "numbers": np.float64}
"""forms: the number of each row's form. cut_rows: how many rows had been cut when the row was read. sizes: of the
lists."""
_BUFFERED = 1 << 16


class DamagedError(Exception):
    """A store that is not as it was written."""


class UnstorableError(Exception):
    """A row that the arrays cannot hold."""


class TokenWriter:
    """Writes rows into a folder, which is complete after `finish`."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._forms: dict[str, int] = {}
        self._rows = 0
        self._buffers: dict[str, list[Any]] = {name: [] for name in _STREAMS}
        self._digests = {name: hashlib.sha256() for name in _STREAMS}
        self._files = {name: open(folder / name, "wb") for name in _STREAMS}  # noqa: SIM115

    def add(self, row: TokenRow, cut_rows: int) -> None:
        """cut_rows: the count of `TokenRows` when the row was read."""
        form = json.dumps(self._form_of(row))
        self._buffers["forms"].append(self._forms.setdefault(form, len(self._forms)))
        self._buffers["cut_rows"].append(cut_rows)
        self._rows += 1
        for name, buffer in self._buffers.items():
            if len(buffer) >= _BUFFERED:
                self._flush(name)

    def finish(self, key: dict[str, Any], cut_rows: int) -> None:
        """Write the manifest. key: what the rows depend on. cut_rows: of all rows."""
        for name in _STREAMS:
            self._flush(name)
        self.close()
        digests = {name: digest.hexdigest() for name, digest in self._digests.items()}
        content = {"key": key, "rows": self._rows, "cut_rows": cut_rows, "forms": list(self._forms), "sha256": digests}
        text = json.dumps({**content, "manifest_sha256": _digest_of(content)}, indent=1)
        (self._folder / MANIFEST).write_text(text + "\n", encoding="utf-8")

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _flush(self, name: str) -> None:
        block = np.array(self._buffers[name], dtype=np.float64 if name == "numbers" else np.int64)
        stored = block.astype(_STREAMS[name])
        if not np.array_equal(stored, block, equal_nan=True):
            raise UnstorableError(f"{block[stored != block][0]} is beyond int32")
        self._digests[name].update(stored.tobytes())
        self._files[name].write(stored.tobytes())
        self._buffers[name].clear()

    def _form_of(self, value: Any) -> Any:
        """The form of a value, which is appended to the buffers."""
        kind = type(value)
        if kind is dict:
            return {key: self._form_of(part) for key, part in value.items()}
        if kind is list:
            kinds = set(map(type, value))
            if kinds <= {int} or kinds == {float}:
                name = "numbers" if kinds == {float} else "integers"
                self._buffers[name] += value
                self._buffers["sizes"].append(len(value))
                return name
            return [self._form_of(part) for part in value]
        if value is None:
            return None
        if kind not in _SCALARS.values():
            raise UnstorableError(f"a row holds {kind.__name__}")
        self._buffers["numbers" if kind is float else "integers"].append(value)
        return next(name for name, own in _SCALARS.items() if own is kind)


_SCALARS = {"integer": int, "number": float, "truth": bool}


class StoredTokens:
    """The rows in a folder, in their order. The arrays are mapped into memory, once for all processes.

    Raises DamagedError where a file is missing or changed.
    """

    def __init__(self, folder: Path):
        try:
            content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if content.pop("manifest_sha256") != _digest_of(content):
                raise DamagedError(MANIFEST)
            for name, digest in content["sha256"].items():
                if sha256_of(folder / name) != digest:
                    raise DamagedError(name)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise DamagedError(str(error)) from error
        self.key: dict[str, Any] = content["key"]
        self.cut_rows: int = content["cut_rows"]
        self._forms = list(map(json.loads, content["forms"]))
        self._streams = {name: _mapped(folder / name, kind) for name, kind in _STREAMS.items()}

    def rows(self) -> Iterator[tuple[TokenRow, int]]:
        """Every row, and how many rows had been cut when it was read."""
        places = dict.fromkeys(_STREAMS, 0)

        def take(name: str, count: int) -> list[Any]:
            places[name] += count
            return self._streams[name][places[name] - count : places[name]].tolist()

        def value_of(form: Any) -> Any:
            if isinstance(form, dict):
                return {key: value_of(part) for key, part in form.items()}
            if isinstance(form, list):
                return [value_of(part) for part in form]
            if form is None:
                return None
            if form in _SCALARS:
                return _SCALARS[form](take("numbers" if form == "number" else "integers", 1)[0])
            return take(form, take("sizes", 1)[0])

        for number, cut_rows in zip(self._streams["forms"], self._streams["cut_rows"], strict=True):
            yield value_of(self._forms[number]), int(cut_rows)


def _mapped(path: Path, kind: type) -> np.ndarray:
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.empty(0, dtype=kind)


def _digest_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
