"""Mutants of the attention kernels, each with one mistake. With every seed tried, the emulator reports it or the values
violate the error rule.

A mutant replaces an exact piece of source. If a change of the kernels removes that piece, the test fails and says so;
rewrite the mutant against the new source.
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
from overrun_mutants import CASES as OVERRUNS
from release_mutants import CASES as RELEASES
from sm80_backward_mutants import CASES as SM80_BACKWARD
from sm90_backward_mutants import CASES as SM90_BACKWARD
from support.repository import python_environment

from tools import kernel_tables

MUTANTS = Path(__file__).resolve().parent / "mutants"
FORWARD, BACKWARD = "sm80/forward.h", "sm80/backward.h"
FRAGMENTS, PREPARE = "sm80/fragments.h", "common/prepare_kernels.h"
FORWARD_OBJECT, BACKWARD_OBJECT, PREPARE_OBJECT = "sm80/forward_bf16.cu", "sm80/backward_bf16.cu", "common/prepare.cu"

ORDER = r"race in shared memory|which nobody has written|while an asynchronous copy .* is in flight"
IN_FLIGHT = r"while an asynchronous copy .* is in flight"
KERNEL_OF_OBJECT = {
    f"{folder}/{kernel.lower()}_bf16.cu": (folder, kernel)
    for folder in ("sm80", "sm90")
    for kernel in ("Forward", "Backward")
}
VALUES = None  # no report: values violate the error rule
SEEDS, MORE_SEEDS = range(1, 3), range(1, 6)
# First row of each head dim, as in Mutant.row.
SM90_HEAD_DIMS = {tile.head_dim: tile.head_dim_v for tile in reversed(kernel_tables.sm90_table("Backward"))}


@dataclass
class Mutant:
    file: str
    old: str
    new: str
    rebuilt: str
    what: str
    expected: str | None
    capability: int = 80
    head_dim: int = 64

    @property
    def row(self) -> int:
        """Only row that is built: that of head_dim in the table of `rebuilt`; 0 for files without a table."""
        kernel = KERNEL_OF_OBJECT.get(self.rebuilt)
        if kernel is None:
            return 0
        return next(tile.row for tile in kernel_tables.table(*kernel) if tile.head_dim == self.head_dim)


KEY_BARRIER = "      ptx::SyncThreads();  // the key tile has arrived, and no warp reads the value tile any more\n"
VALUE_BARRIER = "      ptx::SyncThreads();  // the value tile has arrived, and no warp reads the key tile any more\n"
STAGE_BARRIER = "      ptx::SyncThreads();  // no warp reads the stage any more, and dS^T is complete\n"
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
        "stage_of(kStages == 2 ? current : 0);",
        "stage_of(kStages == 2 ? 1 - current : 0);",
        BACKWARD_OBJECT,
        "backward",
        ORDER,
    ),
    "order of tiles: barrier after clearing removed": Mutant(
        PREPARE,
        "  ptx::SyncThreads();\n  for (int32_t from = 0; from < table.key_tiles;",
        "  for (int32_t from = 0; from < table.key_tiles;",
        PREPARE_OBJECT,
        "forward",
        "race in global memory|which nobody has written",
    ),
    "order of tiles: a counter is raised while lanes read it": Mutant(
        PREPARE,
        "    ptx::SyncWarp();  // all lanes have read the counter\n",
        "",
        PREPARE_OBJECT,
        "forward",
        "race in shared memory|race in global memory|which nobody has written",
    ),
}

CASES |= {
    f"backward: {name}": Mutant(*mistake, head_dim=head_dim) for name, (*mistake, head_dim) in SM80_BACKWARD.items()
}

SM90_FORWARD, SM90_LOADER, SM90_SCHEDULER = "sm90/forward.h", "sm90/forward_loader.h", "sm90/tile_scheduler.h"
SM90_SHARED, SM90_OPERAND, SM90_PIPELINE = "sm90/forward_shared.h", "sm90/smem_tile.h", "sm90/pipeline.h"
SM90_STREAM = "sm90/tile_stream.h"
ASYNC = (
    r"asynchronous (read|write) of 16 bytes|by the asynchronous operation of|while an asynchronous|"
    r"more than the \d+ arrivals of a phase"
)
LATE = f"{ASYNC}|deadlock|which nobody has written"
ISSUE_TO_VALUE = """    IssueOutput(has_output);
    ping_pong_.Pass();
    ptx::WarpgroupWait<1>();
    ptx::Settle(scores);
    Release(&key_ring_);
    if constexpr (kIsPartial) Hide(visible_, scores);
    rows_.Update(arguments_.scale, scores, rescale);
    ptx::Settle(scores);
    const Entry next = NextEntry();  // its loop keeps ptxas from moving the softmax behind the wait
"""
STEP_VALUE = "    ptx::WarpgroupWait<0>();\n    ptx::Settle(out_);\n    Release(&value_ring_);\n    // The factors are"
SKIPPED_TURN = "    ping_pong_.Take();\n    ping_pong_.Pass();\n"
SKIPPED_VALUE = "    value_ring_.WaitFull();\n    Release(&value_ring_);\n    return NextEntry();\n"
STAGE_WAIT = "    if (IsLeader()) position_.WaitEmpty();\n"
COMBINE = "    const int slices = Combine(found);\n"
BITS_BARRIER = "    SyncSchedulerWarps();  // the bits of all warps are there\n"


def sm90_forward(file: str, old: str, new: str, expected: str | None, what: str = "forward") -> Mutant:
    return Mutant(file, old, new, "sm90/forward_bf16.cu", what, expected, 90, 128)


CASES |= {
    "sm90 forward: the wrong phase": sm90_forward(
        SM90_PIPELINE, "MbarrierWait(full(), round())", "MbarrierWait(full(), round() ^ 1)", LATE
    ),
    "sm90 forward: no wait for an empty stage": sm90_forward(SM90_LOADER, "    key_ring_.WaitEmpty();\n", "", ASYNC),
    "sm90 forward: fewer bytes expected": sm90_forward(
        SM90_LOADER, "Shared::Value::kBytes);", "Shared::Value::kBytes / 2);", LATE
    ),
    "sm90 forward: values released before they are multiplied": sm90_forward(
        SM90_FORWARD,
        ISSUE_TO_VALUE + STEP_VALUE,
        "    ArriveByWarp(value_ring_.empty());\n"
        + (ISSUE_TO_VALUE + STEP_VALUE).replace("Release(&value_ring_)", "value_ring_.Advance()"),
        ASYNC,
    ),
    "sm90 forward: no wait for the output": sm90_forward(
        SM90_FORWARD,
        STEP_VALUE,
        "    ptx::Settle(out_);\n    Release(&value_ring_);\n    // The factors are",
        f"sums were changed before this wait|the operand in registers was changed|no WarpgroupFence|{ASYNC}",
    ),
    "sm90 forward: a stage is never released": sm90_forward(
        SM90_FORWARD, "    ArriveByWarp(stream_ring_.empty());\n", "", "deadlock"
    ),
    "sm90 forward: no proxy fence before the output is stored": sm90_forward(
        SM90_FORWARD, "    ptx::FenceProxyAsync();\n", "", "with no FenceProxyAsync after it"
    ),
    "sm90 forward: no barrier before the output is stored": sm90_forward(
        SM90_FORWARD,
        "    SyncWarpgroup();  // the output is in shared memory\n",
        "",
        f"{ASYNC}|which nobody has written",
    ),
    "sm90 forward: the next queries do not wait for the output": sm90_forward(
        SM90_FORWARD, "      ptx::BulkWaitRead<0>();\n", "", ASYNC
    ),
    "sm90 forward: the last turn is left over": sm90_forward(
        SM90_FORWARD, "    ping_pong_.Finish();\n", "", "the block returned while a barrier waited for 128 more threads"
    ),
    "sm90 forward: the scheduler writes before the stage is empty": sm90_forward(
        SM90_SCHEDULER, STAGE_WAIT + COMBINE, COMBINE, "race in shared memory"
    ),
    "sm90 forward: the other scheduler warps do not wait for the stage": sm90_forward(
        SM90_SCHEDULER, STAGE_WAIT + COMBINE, COMBINE + STAGE_WAIT, "race in shared memory"
    ),
    "sm90 forward: a tile is published before all of its bits are there": sm90_forward(
        SM90_SCHEDULER, BITS_BARRIER, "", "race in shared memory|which nobody has written"
    ),
    "sm90 forward: the columns of the same tile loaded again": sm90_forward(
        SM90_SCHEDULER,
        "        undecided &= undecided - 1;\n        load_next();\n",
        "        load_next();\n        undecided &= undecided - 1;\n",
        VALUES,
    ),
    "sm90 forward: nobody takes the last quarter of the keys": sm90_forward(
        SM90_SCHEDULER, "return warp_ * kShare < kRowBlocks;", "return false;", "which nobody has written"
    ),
    "sm90 forward: barriers that copies do not know": sm90_forward(
        SM90_SHARED, "      ptx::FenceMbarrierInit();\n", "", "no FenceMbarrierInit"
    ),
    "sm90 forward: every slice of keys meets the first values": sm90_forward(
        SM90_FORWARD, "value.AlongRows(k)", "value.AlongRows(0)", VALUES
    ),
    "sm90 forward: the output is stored without its swizzle": sm90_forward(
        SM90_OPERAND, "row * kRowBytes + row % 8 * 16 +", "row * kRowBytes +", VALUES
    ),
    "sm90 forward: who skips a tile takes no turn": sm90_forward(
        SM90_FORWARD, SKIPPED_TURN, "", f"deadlock|{ASYNC}|the block returned while a barrier waited", "slices"
    ),
    "sm90 forward: a skipped stage is kept": sm90_forward(
        SM90_FORWARD,
        SKIPPED_VALUE,
        SKIPPED_VALUE.replace("Release(&value_ring_)", "value_ring_.Advance()"),
        "deadlock",
        "slices",
    ),
    "sm90 forward: a run of tiles starts the output anew": sm90_forward(
        SM90_FORWARD, "      LastTile(*has_output);\n", "      LastTile(false);\n", VALUES, "slices"
    ),
    "sm90 forward: a later run does not rescale the output": sm90_forward(
        SM90_FORWARD, "    if (has_output) ScaleRows(out_, rescale);\n", "", VALUES, "slices"
    ),
    "sm90 forward: rescaled only where the first of two rows grew": sm90_forward(
        SM90_FORWARD, "Ballot(rescale[0] != 1.0f || rescale[1] != 1.0f)", "Ballot(rescale[0] != 1.0f)", VALUES, "slices"
    ),
    "sm90 forward: queries twice in one place": sm90_forward(
        SM90_SHARED, "(stage * kConsumers + consumer)", "(0 * stage + consumer)", ASYNC
    ),
    "sm90 forward: a slice takes what the next one sees": sm90_forward(
        SM90_STREAM, "(slices & SeesSome(slice)) != 0", "(slices & SeesSome(slice ^ 1)) != 0", VALUES, "slices"
    ),
    "sm90 forward: partial for another slice": sm90_forward(
        SM90_STREAM, "(slices & MissesSome(slice)) != 0", "(slices & MissesSome(slice ^ 1)) != 0", VALUES, "slices"
    ),
    "sm90 forward: bits of neighbouring keys exchanged": sm90_forward(
        SM90_SCHEDULER, "8 * (lane / 2) + lane % 2", "8 * (lane / 2) + (lane + 1) % 2", VALUES
    ),
}

CASES |= {
    f"sm90 backward, head_dim {head_dim}: {name}": Mutant(*mistake, 90, head_dim)
    for head_dim, mistakes in SM90_BACKWARD.items()
    for name, mistake in mistakes.items()
}
CASES |= {
    name: Mutant(*mistake, capability=90, head_dim=head_dim)
    for name, (*mistake, head_dim) in (RELEASES | OVERRUNS).items()
}


def load_builder():
    specification = importlib.util.spec_from_file_location("mutants_build", MUTANTS / "build.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.Builder


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory):
    return load_builder()(tmp_path_factory.mktemp("mutants"))


def outcomes_of(library: Path, what: str, capability: int, head_dim: int, seeds: range) -> list[dict[str, str | None]]:
    """Per seed."""
    dims = f"{head_dim},{SM90_HEAD_DIMS[head_dim]}"
    command = [sys.executable, MUTANTS / "run_problem.py", library, what, str(capability), dims]
    done = subprocess.run(
        [*command, *map(str, seeds)], capture_output=True, text=True, timeout=240, env=python_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("capability", "head_dim"), [(80, 64), *((90, head_dim) for head_dim in SM90_HEAD_DIMS)])
@pytest.mark.parametrize("what", ["forward", "slices", "backward", "halves", "deterministic", "turns", "keys"])
def test_kernels_without_a_mistake_pass(builder, what: str, capability: int, head_dim: int) -> None:
    for outcome in outcomes_of(builder.library, what, capability, head_dim, SEEDS):
        assert outcome == {"reported": None, "wrong": None}


@pytest.mark.parametrize("name", CASES)
def test_mistake_is_caught(builder, name: str) -> None:
    mutant = CASES[name]
    folder = re.sub(r"\W+", "_", name)
    library = builder.mutant(folder, mutant.file, mutant.old, mutant.new, mutant.rebuilt, mutant.row)
    seeds = MORE_SEEDS if name in RELEASES | OVERRUNS else SEEDS
    for outcome in outcomes_of(library, mutant.what, mutant.capability, mutant.head_dim, seeds):
        if mutant.expected is VALUES:
            assert outcome["reported"] is None and outcome["wrong"], outcome
        else:
            assert outcome["reported"] and re.search(mutant.expected, outcome["reported"]), outcome
