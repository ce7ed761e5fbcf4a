"""Mutants with indices one tile beyond an array of the workspace. test_kernel_mutants.py expects a report with each of
five seeds. A mutant is: file, old text, new text, file to build, problem, report, and head_dim."""

from __future__ import annotations

ROWS, PREPARE, PRODUCER = "backward/preprocess.h", "common/prepare_kernels.h", "sm90/backward_producer.h"
ROWS_OBJECT, PREPARE_OBJECT, BACKWARD_OBJECT = "backward/launch.cu", "common/prepare.cu", "sm90/backward_bf16.cu"

Mistake = tuple[str, str, str, str, str, str, int]


def overrun(file: str, old: str, new: str, rebuilt: str, array: str) -> Mistake:
    report = rf"out of bounds of global memory, \d+ bytes after the start of '{array}' of \d+ bytes"
    return file, old, new, rebuilt, "backward", report, 128


CASES: dict[str, Mistake] = {
    "overrun: lse written a block of rows too far": overrun(
        ROWS,
        "arguments.padded_rows + row, lse)",
        "arguments.padded_rows + row + kRowsPerBlock, lse)",
        ROWS_OBJECT,
        "lse of rows",
    ),
    "overrun: lse copied a tile of queries too far": overrun(
        PRODUCER, "common.lse + row", "common.lse + row + kTileQ", BACKWARD_OBJECT, "lse of rows"
    ),
    "overrun: sums of dquery cleared a block of rows too far": overrun(
        ROWS,
        "arguments.padded_rows + first);",
        "arguments.padded_rows + first + kRowsPerBlock);",
        ROWS_OBJECT,
        "sums of dquery",
    ),
    "overrun: order of the key tiles of the next mask": overrun(
        PREPARE,
        "table.key_order + mask * table.key_tiles",
        "table.key_order + (mask + 1) * table.key_tiles",
        PREPARE_OBJECT,
        "order of key tiles",
    ),
    "overrun: bounds of the next range of rows": overrun(
        PREPARE,
        "table.bounds + (mask * ranges + range) *",
        "table.bounds + (mask * ranges + range + 1) *",
        PREPARE_OBJECT,
        "bounds of key tiles",
    ),
    "overrun: columns of the next key tile": overrun(
        PREPARE,
        "table.padded_keys + key;",
        "table.padded_keys + key + table.tile_k;",
        PREPARE_OBJECT,
        "columns of keys",
    ),
}
