"""Small kernels, each in a right and a wrong version: the emulator passes the right one and reports the wrong one, with
its line, in every order of execution tried."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
SEEDS = (1, 2, 3)

UNWRITTEN_SHARED = r"read of 4 bytes at byte \d+ of shared memory, which nobody has written"
RACE_SHARED = r"race in shared memory: \w+ of \d+ bytes at byte \d+ of shared memory, (written|read) by thread \d+"
IN_FLIGHT = r"read of 4 bytes .* while an asynchronous copy of thread \d+ from pipeline_kernels\.h:\d+ is in flight"
UNWRITTEN_GLOBAL = r"'out' at byte \d+, which nobody has written"
RACE_GLOBAL = r"race in global memory: \w+ of '\w+' at byte \d+, (written|read) by block \d+, thread \d+"

# Mistakes and their possible reports: which of two accesses comes first depends on the order of execution.
REPORTS = {
    "removed_barrier": f"{UNWRITTEN_SHARED}|{RACE_SHARED}",
    "removed_trailing_barrier": RACE_SHARED,
    "removed_warp_barrier": f"{UNWRITTEN_SHARED}|{RACE_SHARED}",
    "plain_beside_atomic": RACE_SHARED,
    "shared_out_of_bounds": r"write out of bounds: 4 bytes at byte 256 of shared memory of 256",
    "shared_maximum": r"launched with 256 bytes of shared memory and 256 at most, earlier launches had 512 at most",
    "shared_misaligned": r"misaligned write of 16 bytes at byte \d+ of shared memory",
    "shared_unwritten": UNWRITTEN_SHARED,
    "shared_start_forgotten": r"write out of bounds: 4 bytes at byte -\d+ of shared memory",
    "global_out_of_bounds": r"read of 4 bytes out of bounds of global memory, 400 bytes after the start of 'in'",
    "array_overrun": r"read of 4 bytes out of bounds of global memory, \d+ bytes after the start of 'first' of 256",
    "array_underrun": r"write of 4 bytes out of bounds of global memory, 4 bytes before the start of 'second' of 256",
    "array_of_last_call": r"read of 'first' at byte \d+, which nobody has written",
    "global_misaligned": r"misaligned read of 8 bytes of global memory",
    "global_unwritten": UNWRITTEN_GLOBAL,
    "output_unwritten": r"unwritten output at byte 252",
    "sum_not_cleared": UNWRITTEN_GLOBAL,
    "blocks_write_the_same": RACE_GLOBAL,
    "blocks_write_the_same_half": r"race in global memory: write of 'out' at byte 40, written by block \d, thread 10",
    "half_of_anothers_word": r"race in global memory: write of 'out' at byte [02], written by block \d, thread 0 at",
    "block_reads_what_another_writes": RACE_GLOBAL,
    "overwritten_after_read": r"race in global memory: write of 'in' at byte \d+, read by block 0, thread \d+",
    "relaxed_instead_of_release": RACE_GLOBAL,
    "release_before_the_data": f"{UNWRITTEN_GLOBAL}|{RACE_GLOBAL}",
    "release_without_barrier": f"{UNWRITTEN_GLOBAL}|{RACE_GLOBAL}",
    "acquire_without_barrier": f"{UNWRITTEN_GLOBAL}|{RACE_GLOBAL}",
    "missing_wait": f"{IN_FLIGHT}|{UNWRITTEN_SHARED}",
    "missing_commit": f"{IN_FLIGHT}|{UNWRITTEN_SHARED}",
    "wait_too_lenient": IN_FLIGHT,
    "wait_without_barrier": f"{IN_FLIGHT}|{RACE_SHARED}|{UNWRITTEN_SHARED}",
    "wrong_stage": IN_FLIGHT,
    "stage_overwritten": f"{IN_FLIGHT}|race in shared memory: asynchronous copy of 16 bytes|{RACE_SHARED}",
    "copy_source_changed": r"the source of this asynchronous copy was changed while it was in flight",
    "copies_left_at_the_end": r"the thread returned while this asynchronous copy was in flight",
    "no_swizzle": r"bank conflict: rows of matrix 0 need 8 passes",
    "swizzle_of_one_side": r"^values$",
    "divergent_shuffle": r"lanes of a warp in different collectives: Shuffle here, others in Shuffle at \w+\.h:\d+",
    "divergent_kinds": r"lanes of a warp in different collectives: \w+ here, others in \w+ at \w+\.h:\d+",
    "divergent_barrier": r"threads of a block in different SyncThreads: others wait at \w+\.h:\d+",
    "lanes_return_early": r"deadlock: .* 27 more lanes of warp 1 wait in Ballot at .* 4 lanes of warp 1 have returned",
    "deadlock_of_named_barriers": (
        r"deadlock: .* warp 0 wait in NamedBarrierSync at .* warp 1 wait in NamedBarrierSync at"
    ),
    "named_barrier_count": r"barrier 1 of \d+ threads, but of \d+ at \w+\.h:\d+",
    "named_barrier_twice": r"the warp arrives at barrier 1 again before the barrier is complete",
    "named_barrier_left": r"the block returned while a barrier waited for 32 more threads",
    "waits_for_nobody": r"deadlock: threads poll memory that nobody changes",
    "endless_loop": r"endless loop: \d+ memory accesses of this thread and nothing else",
}
WITHOUT_PLACE = (
    "shared_maximum",
    "output_unwritten",
    "swizzle_of_one_side",
    "lanes_return_early",
    "deadlock_of_named_barriers",
)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("misuse") / "program"
    flags = ["-std=c++17", "-O1", "-DPFM_EMULATOR", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    includes = [f"-I{REPOSITORY / 'csrc'}", f"-I{REPOSITORY / 'tests'}"]
    sources = [HERE / "misuse" / "program.cc", *sorted(HERE.glob("*.cc"))]
    subprocess.run([os.environ.get("CXX", "g++"), *flags, *includes, *sources, "-o", path], check=True)
    return path


def report_of(program: Path, mistake: str, way: str, seed: int) -> str:
    done = subprocess.run([program, mistake, way, str(seed)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_mistake_is_listed(program: Path) -> None:
    assert subprocess.run([program, "list"], capture_output=True, text=True).stdout.split() == list(REPORTS)


@pytest.mark.parametrize("mistake", REPORTS)
def test_mistake_is_reported(program: Path, mistake: str) -> None:
    for seed in SEEDS:
        assert report_of(program, mistake, "right", seed) == ""
        report = report_of(program, mistake, "wrong", seed)
        assert re.search(REPORTS[mistake], report), report
        if mistake not in WITHOUT_PLACE:
            place = r"^block \d+, thread \d+ \(warp \d+, lane \d+\), (array|barrier|memory|pipeline)_kernels\.h:\d+: "
            assert re.match(place, report), report


def test_the_seed_decides_the_order(program: Path) -> None:
    def order(seed: int) -> list[str]:
        done = subprocess.run([program, "order", str(seed)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
        return done.stdout.split()

    orders = [order(seed) for seed in range(20)]
    assert orders == [order(seed) for seed in range(20)]
    assert len({tuple(one) for one in orders}) > 10
    blocks_started = {int(one[0]) // 2 for one in orders}
    assert blocks_started == {0, 1, 2, 3}, "any block may run first"
