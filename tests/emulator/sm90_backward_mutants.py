"""Mistakes in the backward of compute capability 9.0, for test_kernel_mutants.py: file, old text, new text, what is
run, and the report that is expected, or None where values leave the error rule."""

from __future__ import annotations

KERNEL, PRODUCER, CONSUMER = "sm90/backward.h", "sm90/backward_producer.h", "sm90/backward_own_keys.h"
GRADIENTS, SCORES, PRODUCTS = "sm90/backward_gradients.h", "sm90/backward_scores.h", "sm90/backward_products.h"
SHARED, MASK, PIPELINE = "sm90/backward_shared.h", "sm90/backward_mask.h", "sm90/pipeline.h"

ASYNC = (
    r"asynchronous (read|write) of 16 bytes|by the asynchronous operation of|while an asynchronous|"
    r"more than the \d+ arrivals of a phase"
)
LATE = f"{ASYNC}|deadlock|which nobody has written"
NO_ORDER = rf"race in shared memory|with no barrier|which nobody has written|{ASYNC}"
NO_PROXY_FENCE = "with no FenceProxyAsync after it"

CASES: dict[str, tuple[str, str, str, str, str | None]] = {
    "the wrong phase": (
        PIPELINE,
        "WaitBarrier(full(), round())",
        "WaitBarrier(full(), round() ^ 1)",
        "backward",
        LATE,
    ),
    "no wait for an empty stage": (PRODUCER, "      stages.WaitEmpty();\n", "", "backward", ASYNC),
    "fewer bytes expected": (PRODUCER, "ArriveExpectBytes(full, kStageBytes)", "ArriveBarrier(full)", "backward", LATE),
    "keys used before they are there": (
        CONSUMER,
        "    ptx::WaitBarrier(shared.keys_full(), 0);\n",
        "",
        "backward",
        LATE,
    ),
    "a stage released before its products are done": (
        CONSUMER,
        "        issue_scores(next);\n",
        "        ArriveByWarp(stages.empty());\n        issue_scores(next);\n",
        "deterministic",
        f"race in shared memory|{ASYNC}",
    ),
    "a stage never released": (CONSUMER, "        ArriveByWarp(stages.empty());\n", "", "deterministic", "deadlock"),
    "a wait that lets dkey and dquery fly": (
        CONSUMER,
        "ptx::WarpgroupWait<1>();  // for all but these",
        "ptx::WarpgroupWait<2>();",
        "backward",
        f"{ASYNC}|was changed while this instruction was in flight|sums were changed before this wait",
    ),
    "no wait for dP": (
        CONSUMER,
        "        ptx::WarpgroupWait<1>();\n        ptx::Settle(dscores);\n",
        "        ptx::Settle(dscores);\n",
        "deterministic",
        f"sums were changed before this wait|no WarpgroupFence|{ASYNC}",
    ),
    "no proxy fence after dS": (
        CONSUMER,
        "        StoreRounded(rounded_dscores, shared.dscores(stage), thread_key);\n        ptx::FenceProxyAsync();\n",
        "        StoreRounded(rounded_dscores, shared.dscores(stage), thread_key);\n",
        "backward",
        NO_PROXY_FENCE,
    ),
    "no barrier between dS and its product": (
        CONSUMER,
        "          ptx::BarrierSync(kConsumersBarrier, kConsumerThreads);  // dS of both warpgroups is there\n",
        "",
        "backward",
        NO_ORDER,
    ),
    "one dS for every tile": (SHARED, "stage % 2 * ScoreTile::kBytes", "0 * stage", "backward", NO_ORDER),
    "keys overwritten while the other warpgroup uses them": (
        GRADIENTS,
        "    ptx::BarrierSync(kConsumersBarrier, kConsumerThreads);  // nobody reads key and value any more\n",
        "",
        "backward",
        NO_ORDER,
    ),
    "no proxy fence before the gradients are stored": (
        GRADIENTS,
        "    StoreRounded(rounded, tile, row);\n    ptx::FenceProxyAsync();\n",
        "    StoreRounded(rounded, tile, row);\n",
        "deterministic",
        NO_PROXY_FENCE,
    ),
    "no barrier before the gradients are stored": (
        GRADIENTS,
        "    ptx::BarrierSync(kWarpgroupBarrier + warpgroup, kWarpgroupThreads);\n",
        "",
        "deterministic",
        NO_ORDER,
    ),
    "the block ends while gradients are stored": (
        GRADIENTS,
        "    if (ptx::ThreadIndex() % kWarpgroupThreads == 0) ptx::WaitStoresRead<0>();\n",
        "",
        "deterministic",
        "the thread returned while this asynchronous store reads shared memory",
    ),
    "barriers that copies do not know": (
        KERNEL,
        "    ptx::FenceBarrierInit();\n",
        "",
        "backward",
        "no FenceBarrierInit",
    ),
    "the warpgroups mask each other's tiles": (
        MASK,
        "1u << i / kKeysPerWarpgroup",
        "2u >> i / kKeysPerWarpgroup",
        "deterministic",
        None,
    ),
    "both keys of a thread masked alike": (MASK, "key + 8 * half", "key", "deterministic", None),
    "every tile starts the sums anew": (
        PRODUCTS,
        "left[at / kDepth], right.AlongRows(at), continues || at > 0",
        "left[at / kDepth], right.AlongRows(at), at > 0",
        "deterministic",
        None,
    ),
    "dquery of both warpgroups in the same columns": (SCORES, "8 * first_block + n", "n", "backward", None),
}
