"""Bitwise equality over runs and numbers of threads, at sizes that occupy several threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from support import mask_samples
from support.call import Call, run
from support.compare import assert_same_bits
from support.library import Kernels
from support.problem import Problem

SHAPES = {
    "one head": {"heads_q": 1, "heads_kv": 1, "seqlen_q": 200, "seqlen_k": 2300},
    "grouped heads": {"heads_q": 8, "heads_kv": 2, "seqlen_q": 300, "seqlen_k": 520},
    "one key head": {"heads_q": 7, "heads_kv": 1, "seqlen_q": 200, "seqlen_k": 300},
    "few queries": {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 5, "seqlen_k": 1300},
    "few keys": {"batch": 2, "heads_q": 4, "heads_kv": 2, "seqlen_q": 700, "seqlen_k": 7},
    "batch": {"batch": 5, "heads_q": 3, "heads_kv": 3, "seqlen_q": 130, "seqlen_k": 140},
}


def build(shape: str, kind: str, dtype: str) -> Problem:
    problem = Problem(head_dim=32, head_dim_v=32, dtype=dtype, dropout=0.1, sink=True, dlse=True, **SHAPES[shape])
    rng = np.random.default_rng(2)
    problem.startend, problem.causal = mask_samples.sample_mask(
        kind, rng, problem.batch, 1, problem.seqlen_q, problem.seqlen_k
    )
    return problem


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["full", "causal_document", "random_4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_threads_and_repeats(kernels: Kernels, isa: str, shape: str, kind: str, dtype: str) -> None:
    problem = build(shape, kind, dtype)
    first = run(kernels, problem, workers=1)
    for workers in (1, 2, 3, 5):
        assert_same_bits(first, run(kernels, problem, workers=workers), f"with {workers} threads")


def test_calls_from_several_threads_at_once(kernels: Kernels) -> None:
    problems = [build(shape, "causal_document", "float32") for shape in SHAPES]
    expected = [run(kernels, problem) for problem in problems]
    failures: list[BaseException] = []

    def repeat(index: int) -> None:
        try:
            for _ in range(3):
                assert_same_bits(expected[index], run(kernels, problems[index], workers=2), "beside other calls")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(len(problems))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_all_threads_is_the_default(kernels: Kernels) -> None:
    assert kernels.default_threads() >= 1
    problem = build("grouped heads", "causal_document", "float32")
    assert_same_bits(run(kernels, problem, workers=1), run(kernels, problem, workers=0), "with the default threads")


def test_seed_and_offset_from_memory(kernels: Kernels) -> None:
    problem = build("batch", "causal", "float32")
    by_value = run(kernels, problem)
    call = Call(kernels, problem)
    call.pointer_seed()
    assert_same_bits(by_value, {**call.forward(), **call.backward()}, "when seed and offset are read from memory")
    other = build("batch", "causal", "float32")
    other.offset += 2**32
    assert not np.array_equal(by_value["out"], run(kernels, other)["out"])
