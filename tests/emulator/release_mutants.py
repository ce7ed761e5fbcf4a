"""Mutants of the sm90 kernels that release a stage too early. test_kernel_mutants.py expects a report with each of five
seeds. A mutant is: file, old text, new text, file to build, problem, report, and head_dim.

The operands of a product are free when all four warps of its warpgroup have waited for it, each for its own share. The
report names the warp whose wait is missing."""

from __future__ import annotations

FORWARD, SHARED = "sm90/forward.h", "sm90/forward_shared.h"
FORWARD_OBJECT, BACKWARD_OBJECT = "sm90/forward_bf16.cu", "sm90/backward_bf16.cu"
KERNEL, OWN_KEYS, SHARE_KEYS = "sm90/backward.h", "sm90/backward_own_keys.h", "sm90/backward_share_keys.h"

WRITE = "race in shared memory: asynchronous write of 16 bytes .*"
UNFINISHED = rf"{WRITE}, read (for|until the wait of) warp \d+ by the asynchronous operation of"
OUTPUT = UNFINISHED.replace("asynchronous write of 16", "write of 4")
STORED = rf"{WRITE}, read (for warp|until the wait of thread) \d+ by the asynchronous operation of"
TOO_MANY = r"more than the \d+ arrivals of a phase"
ANY_READ = rf"{UNFINISHED}|race in shared memory: write of \d+ bytes .*, read by thread|{TOO_MANY}"

Mistake = tuple[str, str, str, str, str, str, int]

VALUES_WAIT = "    ptx::WarpgroupWait<0>();\n    ptx::Settle(out_);\n"
BEHIND = "    // The factors are"
RELEASE = "    ArriveByWarp(ring->empty());\n"
TILE_RELEASE = "          FinishStage<kDquerySums>(shared, stages);\n"
ONE_WARP = "ptx::ThreadIndex() / kWarpThreads % kWarpgroupWarps == 2"


def forward(file: str, old: str, new: str, expected: str, head_dim: int = 128) -> Mistake:
    return file, old, new, FORWARD_OBJECT, "forward", expected, head_dim


def one_warp_early(file: str, wait: str, release: str, head_dim: int) -> Mistake:
    """One warp of the backward arrives before its own wait, the other seven after theirs."""
    indent = wait[: len(wait) - len(wait.lstrip())]
    early = f"{indent}if ({ONE_WARP}) ArriveByWarp(stages.empty());\n"
    late = f"if (!({ONE_WARP})) " + release.lstrip()
    new = early + wait + release[: len(release) - len(release.lstrip())] + late
    return file, wait + release, new, BACKWARD_OBJECT, "keys", UNFINISHED, head_dim


CASES: dict[str, Mistake] = {
    "sm90 forward: values released before the wait": forward(
        FORWARD,
        VALUES_WAIT + "    Release(&value_ring_);\n" + BEHIND,
        "    Release(&value_ring_);\n" + VALUES_WAIT + BEHIND,
        UNFINISHED,
    ),
    "sm90 forward: one warp releases values before its wait": forward(
        FORWARD,
        VALUES_WAIT + "    Release(&value_ring_);\n" + BEHIND,
        f"    if ({ONE_WARP}) ArriveByWarp(value_ring_.empty());\n"
        + VALUES_WAIT
        + f"    if (!({ONE_WARP})) ArriveByWarp(value_ring_.empty());\n    value_ring_.Advance();\n"
        + BEHIND,
        UNFINISHED,
    ),
    "sm90 forward: one warp releases for its warpgroup": forward(
        FORWARD,
        RELEASE,
        "    if (ptx::ThreadIndex() % kWarpgroupThreads < kWarpgroupWarps) ptx::MbarrierArrive(ring->empty());\n",
        UNFINISHED,
    ),
    "sm90 forward: one release of keys too few": forward(
        SHARED, "key_ring().Init(1, kConsumerWarps);", "key_ring().Init(1, kConsumerWarps - 1);", ANY_READ
    ),
    "sm90 forward: the output overwrites queries that another warp multiplies": forward(
        FORWARD, "    SyncWarpgroup();  // no product reads the queries any more\n", "", OUTPUT
    ),
    "sm90 forward: another thread than the one that stores the output frees its place": forward(
        FORWARD,
        "    if (thread_ == 0) {\n      ptx::BulkWaitRead<0>();\n"
        "      ptx::MbarrierArrive(query_ring_.empty());\n    }\n",
        "    if (thread_ % 64 == 0) ptx::BulkWaitRead<0>();\n"
        "    if (thread_ == 64) ptx::MbarrierArrive(query_ring_.empty());\n",
        STORED,
        head_dim=256,  # one query stage: the next queries wait for it
    ),
    "sm90 backward, head_dim 64: one warp releases before its wait": one_warp_early(
        OWN_KEYS, "          ptx::WarpgroupWait<0>();\n", TILE_RELEASE, 64
    ),
    "sm90 backward, head_dim 128: one warp releases before its wait": one_warp_early(
        OWN_KEYS, "          ptx::WarpgroupWait<1>();  // for all but these scores\n", TILE_RELEASE, 128
    ),
    "sm90 backward, head_dim 256: one warp releases before its wait": one_warp_early(
        SHARE_KEYS,
        "        ptx::WarpgroupCommit();\n        ptx::WarpgroupWait<0>();\n      }\n",
        "      FinishStage<kDquerySums>(shared, stages);\n",
        256,
    ),
    "sm90 backward, head_dim 128: one release too few": (
        KERNEL,
        "Init(1, kInTurn ? 1 : kConsumerWarps)",
        "Init(1, kConsumerWarps - 1)",
        BACKWARD_OBJECT,
        "keys",
        ANY_READ,
        128,
    ),
}
