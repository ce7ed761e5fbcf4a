"""The attention kernels with one mistake each: the emulator reports it, or the values leave the error rule.

A mutant is an exact piece of source that is replaced; where a change of the kernels removes that piece, its test fails
and says so: write the same mistake against the new source.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

MUTANTS = Path(__file__).resolve().parent / "mutants"
FORWARD, BACKWARD, QUERY_GRADIENT = "sm80/forward.h", "sm80/backward.h", "sm80/query_gradient.h"
FRAGMENTS, PREPARE = "sm80/fragments.h", "common/prepare_kernels.h"
FORWARD_OBJECT, BACKWARD_OBJECT, PREPARE_OBJECT = "sm80/forward_bf16.cu", "sm80/backward_bf16.cu", "prepare.cu"

ORDER = r"race in shared memory|which nobody has written|while an asynchronous copy .* is in flight"
IN_FLIGHT = r"while an asynchronous copy .* is in flight"
VALUES = None  # no report: values leave the error rule


@dataclass
class Mutant:
    file: str
    old: str
    new: str
    rebuilt: str
    what: str
    expected: str | None


KEY_BARRIER = "      ptx::SyncThreads();  // the key tile is there, and every warp is done with the value tile\n"
VALUE_BARRIER = "      ptx::SyncThreads();  // the value tile is there, and every warp is done with the key tile\n"
STAGE_BARRIER = "      ptx::SyncThreads();  // every warp is done with the stage, and dS^T is there\n"
SHUFFLE = "sum[i][half] += ptx::ShuffleXor(sum[i][half], 2);"
WAIT = "      ptx::WaitCopies<0>();\n"

CASES = {
    "forward: barrier before the scores removed": Mutant(FORWARD, KEY_BARRIER, "", FORWARD_OBJECT, "forward", ORDER),
    "forward: barrier before the values removed": Mutant(FORWARD, VALUE_BARRIER, "", FORWARD_OBJECT, "forward", ORDER),
    "forward: no wait for the values": Mutant(
        FORWARD, WAIT + VALUE_BARRIER, VALUE_BARRIER, FORWARD_OBJECT, "forward", IN_FLIGHT
    ),
    "forward: half of the lanes in a shuffle": Mutant(
        FORWARD,
        SHUFFLE,
        f"if (ptx::LaneIndex() < 16) {SHUFFLE}",
        FORWARD_OBJECT,
        "forward",
        "lanes of a warp in different collectives",
    ),
    "forward: a row too much is read": Mutant(
        FRAGMENTS, "row < rows_left", "row <= rows_left", FORWARD_OBJECT, "forward", r"read of 16 bytes out of bounds"
    ),
    "forward: a row too much is written": Mutant(
        FRAGMENTS,
        "if (row >= rows) continue;",
        "if (row > rows) continue;",
        FORWARD_OBJECT,
        "forward",
        r"race in global memory: write of 'out'|write of 4 bytes out of bounds of global memory",
    ),
    "forward: a column block is not written": Mutant(
        FRAGMENTS,
        "if (column >= dim) continue;",
        "if (column + 8 >= dim) continue;",
        FORWARD_OBJECT,
        "forward",
        VALUES,
    ),
    "forward: the output sum does not start at zero": Mutant(
        FORWARD, "    Clear(out);\n", "", FORWARD_OBJECT, "forward", VALUES
    ),
    "forward: copies permute chunks otherwise than loads": Mutant(
        FRAGMENTS,
        "chunk % 2, chunk / 2 * 2), source",
        "chunk % 2, chunk / 2 * 2 ^ 2), source",
        FORWARD_OBJECT,
        "forward",
        VALUES,
    ),
    "forward: chunks are not permuted": Mutant(
        FRAGMENTS, "(lane_chunk ^ (lane_row & 7))", "(lane_chunk)", FORWARD_OBJECT, "forward", "bank conflict"
    ),
    "backward: barrier before dS is read removed": Mutant(
        BACKWARD, STAGE_BARRIER, "", BACKWARD_OBJECT, "backward", ORDER
    ),
    "backward: barrier after the stage removed": Mutant(
        BACKWARD, STAGE_BARRIER, "", BACKWARD_OBJECT, "deterministic", ORDER
    ),
    "backward: one warp in a barrier": Mutant(
        BACKWARD,
        STAGE_BARRIER,
        "      if (warp == 0) ptx::SyncThreads();\n",
        BACKWARD_OBJECT,
        "backward",
        f"threads of a block in different SyncThreads|deadlock|{ORDER}",
    ),
    "backward: wait that lets the current stage fly": Mutant(
        BACKWARD, "ptx::WaitCopies<1>();", "ptx::WaitCopies<2>();", BACKWARD_OBJECT, "backward", IN_FLIGHT
    ),
    "backward: the stage in flight is read": Mutant(
        BACKWARD,
        "const Stage stage = stage_of(current);",
        "const Stage stage = stage_of(1 - current);",
        BACKWARD_OBJECT,
        "backward",
        ORDER,
    ),
    "order of tiles: barrier after clearing removed": Mutant(
        PREPARE,
        "  ptx::SyncThreads();\n  for (int32_t tile = thread; tile < table.key_tiles;",
        "  for (int32_t tile = thread; tile < table.key_tiles;",
        PREPARE_OBJECT,
        "forward",
        "race in global memory|which nobody has written",
    ),
}


def load_builder():
    specification = importlib.util.spec_from_file_location("mutants_build", MUTANTS / "build.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.Builder


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory):
    return load_builder()(tmp_path_factory.mktemp("mutants"))


def outcome_of(library: Path, what: str) -> dict[str, str | None]:
    command = [sys.executable, MUTANTS / "run_problem.py", library, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("what", ["forward", "backward", "deterministic"])
def test_kernels_without_a_mistake_pass(builder, what: str) -> None:
    assert outcome_of(builder.library, what) == {"reported": None, "wrong": None}


@pytest.mark.parametrize("name", CASES)
def test_mistake_is_caught(builder, name: str) -> None:
    mutant = CASES[name]
    folder = re.sub(r"\W+", "_", name)
    library = builder.mutant(folder, mutant.file, mutant.old, mutant.new, mutant.rebuilt)
    outcome = outcome_of(library, mutant.what)
    if mutant.expected is VALUES:
        assert outcome["reported"] is None and outcome["wrong"], outcome
    else:
        assert outcome["reported"] and re.search(mutant.expected, outcome["reported"]), outcome
