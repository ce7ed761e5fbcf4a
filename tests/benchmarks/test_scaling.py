"""Predictions for many GPUs: the memory formulas against measured steps, the counts, and the step time."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from benchmarks.context_parallel import mask_of
from benchmarks.scaling import counts, measure_memory, memory, plans
from benchmarks.scaling.machines import H100
from benchmarks.scaling.models import LLAMA_8B, LLAMA_70B
from benchmarks.scaling.step import Plan, predict
from paddle_flashmask import masks
from paddle_flashmask.distributed import contiguous, zigzag

PLAN = Plan(LLAMA_8B, 32768, tensor=1, context=8, data=1)


@pytest.mark.parametrize("case", measure_memory.load(), ids=lambda case: "-".join(map(str, case[:3])))
def test_memory_formulas_agree_with_measured_steps(case) -> None:
    name, rows, recompute, measured = case
    expected = measure_memory.formulas(measure_memory.MODELS[name], rows, recompute)
    for part in ("weights", "gradients", "optimizer", "activations"):
        assert measured[part] == pytest.approx(expected[part], rel=1e-3), part
    assert 0.85 < measured["peak"] / expected["peak"] < 1.11
    assert measured["workspace"] > expected["workspace"]
    if rows == 2048:  # shorter sequences are dominated by the workspace of each thread
        assert measured["workspace"] < 1.08 * expected["workspace"]


def test_parameters_of_the_models() -> None:
    assert LLAMA_8B.parameters == 8_030_261_248
    assert LLAMA_70B.parameters == 70_553_706_496


def test_divisions_share_what_they_divide() -> None:
    whole = memory.states(LLAMA_8B, memory.MIXED)
    divided = memory.states(LLAMA_8B, memory.MIXED, memory.Division(tensor=2, context=2, sharding=4))
    assert whole["weights"] == 2 * divided["weights"]
    assert whole["optimizer"] == 8 * divided["optimizer"]
    halves = [memory.activations(LLAMA_8B, rows, recompute=True) for rows in (1024, 2048)]
    assert halves[1] == 2 * halves[0]


def test_counts_of_two_ranks() -> None:
    found = counts.count(contiguous(masks.causal(256), 2))
    assert found.pairs.tolist() == [128 * 129 // 2, 128 * 129 // 2 + 128 * 128]
    # The second rank sees all keys of the first: three transfers of them, and one back.
    assert found.all.tolist() == found.near.tolist() == [3 * 128, 3 * 128]
    assert found.far.tolist() == [0, 0]
    assert found.messages == 1


def test_committed_counts() -> None:
    made = counts.count(zigzag(mask_of("causal_document", 32768), 16))
    committed = counts.load()["causal_document", 32768, 16, "zigzag"]
    for field in dataclasses.fields(counts.Counts):
        assert np.array_equal(getattr(made, field.name), getattr(committed, field.name)), field.name


def test_step_is_bound_by_what_is_slow() -> None:
    counted = counts.load()["causal", 32768, 8, "contiguous"]
    free = dataclasses.replace(H100, near=np.inf, far=np.inf, message=0.0)
    step = predict(PLAN, counted, free)
    assert step.overlapped == step.serial == step.products + step.attention
    mean = step.attention * counted.pairs.mean() / counted.pairs.max()
    assert step.ideal == pytest.approx(step.products + mean)

    slow = predict(PLAN, counted, dataclasses.replace(free, near=1e9))
    assert slow.bound == "gradients"
    assert slow.overlapped == pytest.approx(slow.products + slow.gradients + slow.keys)
    assert slow.keys == pytest.approx(slow.bytes_keys / 1e9)
    # 32 layers, keys and values of 8 heads of 128 elements of 2 bytes.
    assert slow.bytes_keys == 32 * 2 * 8 * 128 * 2 * counted.all.max()

    late = predict(PLAN, counted, dataclasses.replace(free, message=0.1))
    assert late.bound == "keys"
    assert late.keys == pytest.approx(4 * 32 * 7 * 0.1)


def test_attention_flops() -> None:
    counted = counts.load()["full", 32768, 8, "contiguous"]
    step = predict(PLAN, counted, dataclasses.replace(H100, attention=(1e12, 1e12)))
    assert step.attention == pytest.approx(32 * 32 * 128 * (2 * 4 + 10) * 32768**2 / 8 / 1e12)


def test_committed_plans_follow_from_the_committed_counts() -> None:
    with plans.RESULTS.open(encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == list(plans.rows(H100))
