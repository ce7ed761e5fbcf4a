"""Mutants of the sm90 backward for test_kernel_mutants.py, by head_dim. A mutant is: file, old text, new text, file to
build, problem, and the expected report, or None if its values violate the error rule."""

from __future__ import annotations

KERNEL, PRODUCER = "sm90/backward.h", "sm90/backward_producer.h"
OWN_KEYS, SHARE_KEYS = "sm90/backward_own_keys.h", "sm90/backward_share_keys.h"
GRADIENTS, SCORES, PRODUCTS = "sm90/backward_gradients.h", "sm90/backward_scores.h", "sm90/wgmma_tiles.h"
SHARED, MASK, PIPELINE = "sm90/backward_shared.h", "sm90/backward_mask.h", "sm90/pipeline.h"
WALK = "common/candidate_tiles.h"
TURNS, RANKS, BLOCK = "sm90/dquery_order.h", "backward/dquery_turns.h", "backward/backward_block.h"
ROWS, CONVERSION = "backward/preprocess.h", "backward/postprocess.h"
KERNEL_OBJECT, ROWS_OBJECT = "sm90/backward_bf16.cu", "backward/launch.cu"

ASYNC = (
    r"asynchronous (read|write) of 16 bytes|by the asynchronous operation of|while an asynchronous|"
    r"more than the \d+ arrivals of a phase"
)
LATE = f"{ASYNC}|deadlock|which nobody has written|race in shared memory"
NO_ORDER = rf"race in shared memory|with no barrier|which nobody has written|{ASYNC}"
NO_PROXY_FENCE = "with no FenceProxyAsync after it"

NOT_WRITTEN = "which nobody has written"
RACE = "race in global memory"
NO_TURN = f"{RACE}|race in shared memory"
IN_FLIGHT = f"sums were changed before this wait|no WarpgroupFence|was changed while this instruction|{ASYNC}"
VALUES = None

CONSUMERS_SYNC = "ptx::NamedBarrierSync(kConsumersBarrier, kConsumerThreads);"
KEYS_BARRIER = f"    {CONSUMERS_SYNC}  // nobody reads key and value any more\n"
DS_BARRIER = f"    {CONSUMERS_SYNC}  // dS of both warpgroups is there\n"
P_BARRIER = f"      {CONSUMERS_SYNC}  // P and dS of both warpgroups are there\n"
DS_STORED = "          StoreRounded(rounded_dscores, shared.dscores(stages), ptx::Fresh(thread_key));\n"
ZEROS_STORED = "        StoreRounded(zeros, shared.dscores(*stages), thread_key);\n"
PROXY_FENCE = "ptx::FenceProxyAsync();\n"
DQUERY_WAIT = "          ptx::WarpgroupWait<2>();  // for dquery\n"
LAST_DQUERY_WAIT = "          ptx::WarpgroupWait<1>();  // likewise\n"
RELEASE = "      FinishStage<kDquerySums>(shared, stages);\n"
TILE_RELEASE = "    " + RELEASE + "          stages = next;\n"
LAST_WAIT = "          ptx::WarpgroupWait<0>();\n" + TILE_RELEASE
DEAD_ADD = "        AddDquery(common, shared, warpgroup, *stages, dquery);\n"
DEAD_RELEASE = "      FinishStage<kDquerySums>(shared, *stages);\n"
QUERY_WAIT = "        ptx::WarpgroupWait<0>();\n        ptx::Settle(dquery);\n"

TURN_WAIT = "  if constexpr (kDquerySums == DquerySums::kInTurn) stages.WaitAlong(shared.turns());\n"

Mistake = tuple[str, str, str, str, str, str | None]


def mistake(file: str, old: str, new: str, what: str, expected: str | None) -> Mistake:
    return file, old, new, KERNEL_OBJECT, what, expected


def row_mistake(old: str, new: str, expected: str | None, what: str = "halves", file: str = ROWS) -> Mistake:
    return file, old, new, ROWS_OBJECT, what, expected


def turn_mistake(old: str, new: str, expected: str, file: str = RANKS) -> Mistake:
    return mistake(file, old, new, "turns", expected)


CASES: dict[int, dict[str, Mistake]] = {
    128: {
        "the wrong phase": mistake(
            PIPELINE,
            "MbarrierWait(full(), round())",
            "MbarrierWait(full(), round() ^ 1)",
            "backward",
            LATE,
        ),
        "no wait for an empty stage": mistake(PRODUCER, "      stages.WaitEmpty();\n", "", "backward", ASYNC),
        "fewer bytes expected": mistake(
            PRODUCER, "MbarrierArriveExpectBytes(full, kStageBytes)", "MbarrierArrive(full)", "backward", LATE
        ),
        "bits of a tile handed over before all lanes have written": mistake(
            PRODUCER, "      ptx::SyncWarp();  // the bits of the tile are there\n", "", "deterministic", NO_ORDER
        ),
        "bits of the next tile in the place of one that is still read": mistake(
            PRODUCER,
            "stages.position() % kBackward[kRow].bit_tiles",
            "stages.position() % 2",
            "deterministic",
            NO_ORDER,
        ),
        "a block takes its place from the order of dispatch": mistake(
            KERNEL,
            "kInTurn ? ptx::AtomicAdd(arguments.common.ticket, 1) : ptx::BlockIndex()",
            "ptx::BlockIndex()",
            "turns",
            "deadlock|endless",
        ),
        "a ticket that nobody cleared": row_mistake(
            "    ptx::StoreGlobal(arguments.ticket, 0);\n", "", NOT_WRITTEN, "turns"
        ),
        "keys used before they are there": mistake(
            OWN_KEYS,
            "    ptx::MbarrierWait(shared.keys_full(), 0);\n",
            "",
            "backward",
            LATE,
        ),
        "a stage released before its products are done": mistake(
            OWN_KEYS,
            "          issue_scores(next);\n",
            "          ArriveByWarp(stages.empty());\n          issue_scores(next);\n",
            "deterministic",
            f"race in shared memory|{ASYNC}",
        ),
        "a stage never released": mistake(
            OWN_KEYS,
            TILE_RELEASE + "        } else {",
            "          stages = next;\n        } else {",
            "deterministic",
            "deadlock",
        ),
        "dquery added while it is summed": mistake(
            OWN_KEYS, DQUERY_WAIT, DQUERY_WAIT.replace("<2>", "<3>"), "backward", VALUES
        ),
        "dquery of the last tile added while it is summed": mistake(
            OWN_KEYS, LAST_DQUERY_WAIT, LAST_DQUERY_WAIT.replace("<1>", "<2>"), "backward", VALUES
        ),
        "dquery and dkey in one group": mistake(
            OWN_KEYS,
            "            IssueQueryGradient(shared, warpgroup, stages, dquery);\n            ptx::WarpgroupCommit();\n",
            "            IssueQueryGradient(shared, warpgroup, stages, dquery);\n",
            "backward",
            VALUES,
        ),
        "a wait that lets dkey fly": mistake(
            OWN_KEYS,
            "ptx::WarpgroupWait<1>();  // for all but these scores",
            "ptx::WarpgroupWait<2>();",
            "backward",
            f"{ASYNC}|was changed while this instruction was in flight|sums were changed before this wait",
        ),
        "no wait for dP": mistake(
            OWN_KEYS,
            "        ptx::WarpgroupWait<1>();\n        ptx::Settle(dscores);\n",
            "        ptx::Settle(dscores);\n",
            "deterministic",
            f"sums were changed before this wait|no WarpgroupFence|{ASYNC}",
        ),
        "no proxy fence after dS": mistake(
            OWN_KEYS,
            DS_STORED + "          " + PROXY_FENCE,
            DS_STORED,
            "backward",
            NO_PROXY_FENCE,
        ),
        "no barrier between dS and its product": mistake(OWN_KEYS, DS_BARRIER, "", "backward", NO_ORDER),
        "one dS for every tile": mistake(
            SHARED, "stages.position() % 2 * ScoreTile::kBytes", "0 * stages.position()", "backward", NO_ORDER
        ),
        "keys overwritten while the other warpgroup uses them": mistake(
            GRADIENTS, KEYS_BARRIER, "", "backward", NO_ORDER
        ),
        "no proxy fence before the gradients are stored": mistake(
            GRADIENTS,
            "    StoreRounded(rounded, tile, row);\n    ptx::FenceProxyAsync();\n",
            "    StoreRounded(rounded, tile, row);\n",
            "deterministic",
            NO_PROXY_FENCE,
        ),
        "no barrier before the gradients are stored": mistake(
            GRADIENTS,
            "    ptx::NamedBarrierSync(kWarpgroupBarrier + warpgroup, kWarpgroupThreads);\n",
            "",
            "deterministic",
            NO_ORDER,
        ),
        "the block ends while gradients are stored": mistake(
            GRADIENTS,
            "    if (ptx::ThreadIndex() % kWarpgroupThreads == 0) ptx::BulkWaitRead<0>();\n",
            "",
            "deterministic",
            "the thread returned while this asynchronous store reads shared memory",
        ),
        "barriers that copies do not know": mistake(
            KERNEL, "    ptx::FenceMbarrierInit();\n", "", "backward", "no FenceMbarrierInit"
        ),
        "the warpgroups mask each other's tiles": mistake(
            MASK,
            "keys |= 1u << i / kParts;",
            "keys |= 1u << (i / kParts ^ 2);",
            "deterministic",
            None,
        ),
        "both keys of a thread masked alike": mistake(MASK, "key + 8 * half", "key", "deterministic", None),
        "every tile starts the sums anew": mistake(
            PRODUCTS,
            "left[at / kDepth], right.AlongRows(at), continues || at > 0",
            "left[at / kDepth], right.AlongRows(at), at > 0",
            "deterministic",
            None,
        ),
        "dquery of both warpgroups in the same columns": mistake(
            SCORES, "first_column / 8, ptx::LaneIndex()", "0, ptx::LaneIndex()", "backward", None
        ),
        "no zeros where a warpgroup sees nothing": mistake(
            OWN_KEYS, ZEROS_STORED, "", "halves", f"{NO_ORDER}|{NOT_WRITTEN}"
        ),
        "no proxy fence after these zeros": mistake(
            OWN_KEYS, ZEROS_STORED + "        " + PROXY_FENCE, ZEROS_STORED, "halves", NO_PROXY_FENCE
        ),
        "two blocks with the same keys": mistake(
            BLOCK, "KeyTileOf(arguments.mask, rank)", "KeyTileOf(arguments.mask, rank / 2 * 2)", "backward", RACE
        ),
        "who sees nothing keeps the stage": mistake(OWN_KEYS, DEAD_RELEASE, "", "halves", "deadlock"),
        "who sees nothing adds no dquery": mistake(OWN_KEYS, DEAD_ADD, "", "halves", VALUES),
        "sees nothing: taken from the other warpgroup": mistake(
            SHARED, "keys >> (16 + 2 * warpgroup)", "keys >> (18 - 2 * warpgroup)", "halves", VALUES
        ),
        "sums of dquery that nobody cleared": row_mistake(
            "    ClearSums(arguments, batch_head * arguments.padded_rows + first);\n", "", NOT_WRITTEN
        ),
        "half of the sums of dquery cleared": row_mistake(
            "kRowsPerBlock * arguments.padded_dim / 4", "kRowsPerBlock / 2 * arguments.padded_dim / 4", NOT_WRITTEN
        ),
        "sums of dquery that no key tile reaches": row_mistake(
            "if (IsReached(arguments, batch, head, row)) {", "if (row >= 0) {", NOT_WRITTEN, file=CONVERSION
        ),
        "the walk starts behind its first tile": mistake(
            WALK, "rows.min_begin / kTileQ", "rows.min_begin / kTileQ + 1", "backward", VALUES
        ),
        "no wait for the turn": mistake(SCORES, TURN_WAIT, "", "turns", NO_TURN),
        "the turn is not passed on": turn_mistake(
            "      if (ptx::LaneIndex() == 0) PassTurn(common, block, tile.row_block);\n",
            "",
            "deadlock",
            TURNS,
        ),
        "the turn is passed on without a release": turn_mistake("ptx::StoreRelease(", "ptx::StoreGlobal(", RACE),
        "the turn is passed on before all have added": turn_mistake(
            "      stages.WaitAlong(shared.added());\n", "", f"{RACE}|{LATE}", TURNS
        ),
        "the turn is looked at without an acquire": turn_mistake(
            "ptx::LoadAcquire(", "ptx::LoadGlobal(", f"{RACE}|endless loop"
        ),
        "the turn has come before it was waited for": turn_mistake(
            "  if (before != 0 && ptx::LaneIndex() == 0) {\n", "  if (false) {\n", RACE
        ),
        "the turn after the next lower rank": turn_mistake(
            "MarkOf(end - 1 - ptx::LowestBit(found))", "MarkOf(end - 1)", f"deadlock|{RACE}"
        ),
        "the turn after any lower rank of 32": turn_mistake(
            "ptx::LowestBit(found)", "31 + ptx::LowestBit(found) / 32 - __builtin_clz(found)", f"deadlock|{RACE}"
        ),
        "turns of the first head of a block for all": turn_mistake(
            "mask(arguments.mask, block.batch, head)",
            "mask(arguments.mask, block.batch, block.first_head)",
            f"deadlock|{RACE}",
        ),
        "turns by what bounds do not rule out, taken by what columns do not": mistake(
            MASK, "if (!kInTurn && ", "if (", "turns", f"deadlock|{RACE}"
        ),
        "one turn for two query tiles": turn_mistake("(kRowsPerBlock / 16)", "(kRowsPerBlock / 8)", f"deadlock|{RACE}"),
        "marks that nobody cleared": row_mistake(
            "      ptx::StoreGlobal(arguments.turns + ptx::BlockIndex(), 0);\n", "", NOT_WRITTEN, "turns"
        ),
    },
    64: {
        "no wait for the turn": mistake(SCORES, TURN_WAIT, "", "turns", NO_TURN),
        "no wait for the turn of a tile that a warpgroup does not see": mistake(
            OWN_KEYS,
            DEAD_ADD,
            "        AddQueryGradient<DquerySums::kInAnyOrder>("
            "common, shared, *stages, FirstQuery(warpgroup), FirstColumn(warpgroup), dquery);\n",
            "turns",
            RACE,
        ),
        "no wait for the scores": mistake(
            OWN_KEYS,
            "        ptx::WarpgroupWait<1>();\n        finish_scores();\n",
            "        finish_scores();\n",
            "deterministic",
            IN_FLIGHT,
        ),
        "no wait for the sums": mistake(
            OWN_KEYS, LAST_WAIT, TILE_RELEASE, "backward", f"{IN_FLIGHT}|returned before WarpgroupWait"
        ),
        "a stage released before its products are done": mistake(
            OWN_KEYS,
            LAST_WAIT,
            "          ArriveByWarp(stages.empty());\n" + LAST_WAIT,
            "deterministic",
            f"race in|{ASYNC}",
        ),
        "no proxy fence after dS": mistake(
            OWN_KEYS, DS_STORED + "          " + PROXY_FENCE, DS_STORED, "backward", NO_PROXY_FENCE
        ),
        "no barrier between dS and its product": mistake(OWN_KEYS, DS_BARRIER, "", "backward", NO_ORDER),
        "one dS for every tile": mistake(
            SHARED, "stages.position() % 2 * ScoreTile::kBytes", "0 * stages.position()", "backward", NO_ORDER
        ),
        "keys overwritten while the other warpgroup uses them": mistake(
            GRADIENTS, KEYS_BARRIER, "", "backward", NO_ORDER
        ),
        "dquery of both warpgroups from the same columns": mistake(
            OWN_KEYS, "shared.key(), FirstColumn(warpgroup));", "shared.key(), 0);", "backward", VALUES
        ),
        "the second 32 queries masked as the first": mistake(
            MASK, "scores + 4 * (4 * word + n)", "scores + 4 * (0 * word + n)", "deterministic", VALUES
        ),
        "no zeros where a warpgroup sees nothing": mistake(
            OWN_KEYS, ZEROS_STORED, "", "halves", f"{NO_ORDER}|{NOT_WRITTEN}"
        ),
        "sees nothing: taken from the other warpgroup": mistake(
            SHARED, "keys >> (16 + 2 * warpgroup)", "keys >> (18 - 2 * warpgroup)", "halves", VALUES
        ),
    },
    256: {
        "no wait for the turn": mistake(SCORES, TURN_WAIT, "", "turns", NO_TURN),
        "the turn is passed on before all have added": turn_mistake(
            "      stages.WaitAlong(shared.added());\n", "", f"{RACE}|{LATE}", TURNS
        ),
        "no wait for the scores": mistake(
            SHARE_KEYS, "      ptx::WarpgroupWait<1>();\n", "", "deterministic", IN_FLIGHT
        ),
        "no wait for dP": mistake(
            SHARE_KEYS,
            "      ptx::WarpgroupWait<0>();\n      ptx::Settle(dscores);\n",
            "      ptx::Settle(dscores);\n",
            "deterministic",
            IN_FLIGHT,
        ),
        "no wait for dquery": mistake(SHARE_KEYS, QUERY_WAIT, "        ptx::Settle(dquery);\n", "backward", IN_FLIGHT),
        "a stage released before its products are done": mistake(
            SHARE_KEYS,
            QUERY_WAIT,
            "        ArriveByWarp(stages.empty());\n" + QUERY_WAIT,
            "backward",
            f"race in|{ASYNC}",
        ),
        "a stage never released": mistake(SHARE_KEYS, RELEASE, "", "deterministic", "deadlock"),
        "no proxy fence after P and dS": mistake(
            SHARE_KEYS, "      " + PROXY_FENCE, "", "deterministic", NO_PROXY_FENCE
        ),
        "no barrier after P and dS": mistake(SHARE_KEYS, P_BARRIER, "", "deterministic", NO_ORDER),
        "one P and dS for every tile": mistake(
            SHARED, "stages.position() % 2 * ScoreTile::kBytes", "0 * stages.position()", "deterministic", NO_ORDER
        ),
        "both warpgroups score the same queries": mistake(
            SHARE_KEYS, "first_query = kQueries * warpgroup", "first_query = 0 * warpgroup", "deterministic", NO_ORDER
        ),
        "lse of the first half of the queries": mistake(
            SHARE_KEYS, "shared.lse(stage) + 4 * first_query", "shared.lse(stage)", "deterministic", VALUES
        ),
        "delta of the first half of the queries": mistake(
            SHARE_KEYS, "shared.delta(stage) + 4 * first_query", "shared.delta(stage)", "deterministic", VALUES
        ),
        "the second half of the queries masked as the first": mistake(
            SHARE_KEYS, "ThreadRow(), first_query, scores", "ThreadRow(), 0, scores", "deterministic", VALUES
        ),
        "every tile starts the sums anew": mistake(
            PRODUCTS,
            "right.AlongRows(at, right_column), continues || at > 0",
            "right.AlongRows(at, right_column), at > 0",
            "deterministic",
            VALUES,
        ),
        "dquery of both warpgroups from the same columns": mistake(
            SHARE_KEYS, "shared.key(), dquery_column);", "shared.key(), 0);", "backward", VALUES
        ),
        "dkey of both warpgroups in the same columns": mistake(
            GRADIENTS,
            "{column + part * kBlockColumns, key0",
            "{part * kBlockColumns, key0",
            "deterministic",
            "race in global memory",
        ),
    },
    192: {
        "the second warpgroup sums the first columns of dkey": mistake(
            SHARE_KEYS,
            "dkey_column = (kTile.head_dim - kDkeyColumns) * warpgroup",
            "dkey_column = 0",
            "deterministic",
            NO_ORDER,
        ),
        "the second warpgroup sums the first columns of dquery": mistake(
            SHARE_KEYS,
            "dquery_column = (kTile.head_dim - kDqueryColumns) * warpgroup",
            "dquery_column = 0",
            "backward",
            VALUES,
        ),
        "both warpgroups with as many columns of dkey": mistake(
            SHARE_KEYS,
            "RunWith<kSecond, kFirst>(arguments, shared, 1);",
            "RunWith<kSecond, kSecond>(arguments, shared, 1);",
            "backward",
            VALUES,
        ),
    },
}
