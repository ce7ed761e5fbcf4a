"""Mutants of the order of work and of the turns of dquery in the sm80 backward, for test_kernel_mutants.py. A mutant
is: file, old text, new text, file to build, problem, the expected report, or None if its values violate the error rule,
and head_dim: 64 has two stages, 256 one."""

from __future__ import annotations

KERNEL, WORK = "sm80/backward.h", "sm80/shared_block.h"
TURNS = "backward/dquery_turns.h"
KERNEL_OBJECT = "sm80/backward_bf16.cu"

RACE = "race in global memory"
SHARED_RACE = "race in shared memory|which nobody has written"
AWAIT = "AwaitTurn<kTileQ>(arguments, shared_block.Load(), tile.head, tile.index, row_block);"
PASS = "PassTurn(arguments, shared_block.Load(), row_block);"
ALL_ADDED = "      if constexpr (kInTurn || kStages == 1) ptx::SyncThreads();\n"

Mistake = tuple[str, str, str, str, str, str | None, int]


def mistake(
    old: str, new: str, expected: str | None, file: str = KERNEL, head_dim: int = 64, what: str = "turns"
) -> Mistake:
    return file, old, new, KERNEL_OBJECT, what, expected, head_dim


CASES: dict[str, Mistake] = {
    "no wait for the turn": mistake(AWAIT, "", RACE),
    "no wait for the turn, one stage": mistake(AWAIT, "", RACE, head_dim=256),
    "the turn is not passed on": mistake(PASS, ";", "deadlock"),
    "the turn is passed on before all have added": mistake(ALL_ADDED, "", RACE),
    "the turn is passed on without a release": mistake("ptx::StoreRelease(", "ptx::StoreGlobal(", RACE, TURNS),
    "the turn is looked at without an acquire": mistake(
        "ptx::LoadAcquire(", "ptx::LoadGlobal(", f"{RACE}|endless loop", TURNS
    ),
    "the turn after the next lower rank": mistake(
        "MarkOf(end - 1 - ptx::LowestBit(found))", "MarkOf(end - 1)", f"deadlock|{RACE}", TURNS
    ),
    "two key tiles with the same rank": mistake(
        "{block.batch, block.kv_head, block.first_head, block.key_tile, block.split, block.rank}",
        "{block.batch, block.kv_head, block.first_head, block.key_tile, block.split, block.rank / 2 * 2}",
        f"deadlock|{RACE}",
        WORK,
    ),
    "a block takes its place from the order of dispatch": mistake(
        "kInTurn ? ptx::AtomicAdd(arguments.ticket, 1) : ptx::BlockIndex()",
        "ptx::BlockIndex()",
        "deadlock|endless",
        WORK,
    ),
    "the work is read before it is found": mistake(
        "    ptx::SyncThreads();\n  }\n\n  PFM_DEVICE int32_t batch()",
        "  }\n\n  PFM_DEVICE int32_t batch()",
        SHARED_RACE,
        WORK,
        what="backward",
    ),
    "the next tile takes the place of this one": mistake(
        "shared_block.StoreTile(1 - current, next);",
        "shared_block.StoreTile(current, next);",
        f"{SHARED_RACE}|out of bounds",
        what="backward",
    ),
    "sums added in another order than they are read": mistake(
        "first + PlaceInBlock(false, 0, e)", "first + PlaceInBlock(true, 0, e)", None, what="backward"
    ),
}
