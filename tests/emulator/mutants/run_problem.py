"""Run a small problem on a library of emulated kernels in several orders of execution. Prints JSON: per order, the
report of the emulator and the values that violate the error rule. A separate process, since a broken kernel may do
anything.

    run_problem.py LIBRARY forward|slices|backward|halves|deterministic|turns|keys COMPUTE_CAPABILITY D,DV SEED...

keys: the gradients of keys and values alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from support import mask_samples
from support.compare import Expectation
from support.dense import GRADIENTS
from support.emulated import EmulatedCall, EmulatedKernels
from support.library import KernelError
from support.problem import Problem

DETERMINISTIC = ("deterministic", "turns")


def small_problem(head_dim: int, head_dim_v: int, seqlen_k: int) -> Problem:
    """Three or more tiles each way with ragged ends, two heads that share keys, all kinds of tiles."""
    startend, causal = mask_samples.sample_mask("causal_document", np.random.default_rng(5), 1, 1, 330, seqlen_k)
    return Problem(
        seqlen_q=330,
        seqlen_k=seqlen_k,
        heads_q=2,
        heads_kv=1,
        head_dim=head_dim,
        head_dim_v=head_dim_v,
        dtype="bfloat16",
        causal=causal,
        startend=startend,
        layout="heads_first",
    )


def problem_of_slices(head_dim: int, head_dim_v: int) -> Problem:
    """Of the 128 keys from 128 t on, hidden[t] are the rows that do not see them: of 64 rows that go together, those
    before see a tile that those after do not, the other way round, and either sees it in part."""
    hidden = [(0, 0), (0, 64), (0, 64), (64, 128), (0, 0), (0, 100), (100, 330), (64, 90), (0, 0)]
    seqlen_k = 128 * len(hidden)
    startend = np.zeros((1, 1, seqlen_k, 4), np.int32)
    startend[0, 0, :, :2] = np.repeat(hidden, 128, axis=0)
    sizes = {"seqlen_q": 330, "seqlen_k": seqlen_k, "head_dim": head_dim, "head_dim_v": head_dim_v}
    return Problem(**sizes, dtype="bfloat16", startend=startend, softmax_scale=1.0)


def problem_of_halves(head_dim: int, head_dim_v: int) -> Problem:
    """Of the 64 keys from 64 t on, hidden[t] are the rows that do not see them: of 64 keys that go together, those
    before are seen where those after are not, the other way round, and some never. Rows from 256 on see nothing."""
    hidden = [(0, 128), (128, 256), (0, 0), (0, 256), (0, 64), (30, 100), (64, 128)]
    seqlen_k = 64 * len(hidden)
    startend = np.zeros((1, 1, seqlen_k, 4), np.int32)
    startend[0, 0, :, :2] = np.repeat(hidden, 64, axis=0)
    startend[..., 2:] = 256, 400
    sizes = {"seqlen_q": 400, "seqlen_k": seqlen_k, "head_dim": head_dim, "head_dim_v": head_dim_v}
    return Problem(**sizes, dtype="bfloat16", startend=startend)


def problem_of_turns(head_dim: int, head_dim_v: int) -> Problem:
    """As problem_of_halves, for another chain of key tiles per query tile, with gaps, and per head: the second one sees
    keys 384 further on as the first. Of 128 keys half see the first rows and half the last ones, and nobody those
    between."""
    hidden = [(0, 0), (64, 400), (0, 256), None, (0, 128), (128, 400), (0, 192), (100, 300)]
    both_ends = np.tile([(64, 400), (0, 330)], (64, 1))
    columns = np.concatenate([both_ends if rows is None else np.tile(rows, (128, 1)) for rows in hidden])
    columns[576:640] = 0, 400
    startend = np.zeros((1, 2, len(columns), 4), np.int32)
    startend[0, 0, :, :2], startend[0, 1, :, :2] = columns, np.roll(columns, 384, axis=0)
    sizes = {"seqlen_q": 400, "seqlen_k": len(columns), "head_dim": head_dim, "head_dim_v": head_dim_v}
    return Problem(**sizes, heads_kv=1, heads_mask=2, dtype="bfloat16", startend=startend)


def main(library: str, what: str, capability: str, dims: str, *seeds: str) -> list[dict[str, str | None]]:
    head_dim, head_dim_v = map(int, dims.split(","))
    # Tiles of 9.0 are larger and its rings longer.
    if what == "slices":
        problem = problem_of_slices(head_dim, head_dim_v)
    elif what == "halves":
        problem = problem_of_halves(head_dim, head_dim_v)
    elif what == "turns":
        problem = problem_of_turns(head_dim, head_dim_v)
    else:
        problem = small_problem(head_dim, head_dim_v, seqlen_k=900 if capability == "90" else 330)
    expectation = Expectation(problem)
    kernels = EmulatedKernels(Path(library))
    outcomes = []
    for seed in seeds:
        # One persistent block in the forward, so that its rings go around several times.
        multiprocessors = 1 if what in ("forward", "slices") else 0
        gradients = ("dkey", "dvalue") if what == "keys" else GRADIENTS
        call = EmulatedCall(kernels, problem, what in DETERMINISTIC, multiprocessors, gradients)
        kernels.configure(int(seed), compute_capability=int(capability))
        outcome = {"reported": None, "wrong": None}
        try:
            results = call.forward()
            if what not in ("forward", "slices"):
                results = call.backward()
            expectation.check(results, f"seed={seed}")
        except KernelError as error:
            outcome["reported"] = error.message
        except AssertionError as error:
            outcome["wrong"] = str(error)
        outcomes.append(outcome)
    return outcomes


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
