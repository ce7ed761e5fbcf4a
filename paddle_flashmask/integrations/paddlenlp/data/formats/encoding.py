"""Files that are no UTF-8 text, told by their first bytes."""

from __future__ import annotations

import codecs
from pathlib import Path

from ...errors import DataError

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_PARQUET = b"PAR1"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def check_text_file(path: Path) -> None:
    """Raise DataError for a compressed file, a Parquet file, and a text in UTF-16, which the name does not tell."""
    with open(path, "rb") as file:
        start = file.read(8)
    for mark, name in _COMPRESSED.items():
        if start.startswith(mark):
            raise DataError(f"{path} is compressed with {name}, whatever its name; decompress it")
    if start.startswith(_PARQUET):
        raise DataError(f"{path} is a Parquet file, whatever its name, which must end in .parquet")
    if start.startswith(_UTF16) or _every_second_is_0(start):
        raise DataError(f"{path} is UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8")


def _every_second_is_0(start: bytes) -> bool:
    """Whether the first characters are ASCII in UTF-16 without a byte-order mark."""
    return len(start) >= 4 and all(start[0::2]) and not any(start[1::2])
