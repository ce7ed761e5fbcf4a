"""Copies of the config headers of csrc/cuda/sm90 with one row of their table, changed.

A copy is included before everything else and has the include guard of the original, which is then skipped.
"""

from __future__ import annotations

import re
from pathlib import Path

from tools.build_kernels import ROOT

CONFIG = ROOT / "csrc" / "cuda" / "sm90"
HEAD_GROUPS = ROOT / "csrc" / "cuda" / "common" / "head_groups.h"
Row = dict[str, int]
# Fields of a row in their order; those of type bool are 0 or 1.
FIELDS = {
    "forward": (
        "head_dim",
        "head_dim_v",
        "tile_q",
        "tile_k",
        "stages",
        "query_stages",
        "producer_registers",
        "consumer_registers",
    ),
    "backward": (
        "head_dim",
        "head_dim_v",
        "tile_q",
        "tile_k",
        "stages",
        "bit_tiles",
        "shares_keys",
        "producer_registers",
        "consumer_registers",
    ),
}
_TABLE = re.compile(r"(constexpr \w+Tile k(?:Forward|Backward)\[\] = \{\n)(.*?)(^\};\n)", re.M | re.S)


def source_of(direction: str) -> str:
    return (CONFIG / f"{direction}_config.h").read_text()


def table_row(direction: str, head_dim: int) -> Row:
    """Row of the table for equal head dims. Raises LookupError if there is none."""
    match = _TABLE.search(source_of(direction))
    assert match, direction
    for words in re.findall(r"^    \{(\d[^{}]*)\},", match[2], re.M):
        values = [{"true": 1, "false": 0}.get(word.strip(), word) for word in words.split(",")]
        row = dict(zip(FIELDS[direction], map(int, values), strict=True))
        if row["head_dim"] == row["head_dim_v"] == head_dim:
            return row
    raise LookupError(f"{direction}_config.h has no row for head_dim {head_dim}")


def write(folder: Path, direction: str, row: Row, cached_mib: int = 0) -> Path:
    """Write the header to include: the config with this row alone, and the budget of cached bytes if one is given."""
    assert tuple(row) == FIELDS[direction], row
    values = ["true" if value else "false" for name, value in row.items() if name == "shares_keys"]
    text = ", ".join(values[0] if name == "shares_keys" else str(value) for name, value in row.items())
    header, count = _TABLE.subn(lambda found: f"{found[1]}    {{{text}}},\n{found[3]}", source_of(direction))
    assert count == 1, direction
    header = re.sub(r"^static_assert\(k(?:Forward|Backward)\[.*\n", "", header, flags=re.M)  # of rows by number
    if cached_mib:
        groups, count = re.subn(
            r"kCachedBytes = \d+ << 20;", f"kCachedBytes = {cached_mib} << 20;", HEAD_GROUPS.read_text()
        )
        assert count == 1
        # The copy lies elsewhere, so its own includes start at csrc.
        header += groups.replace('"../../', '"').replace('"../', '"cuda/')
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "variant.h"
    if not path.exists() or path.read_text() != header:
        path.write_text(header)
    return path
