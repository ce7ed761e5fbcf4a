"""Guarantees of the C ABI beside values: the same bits in every order, seeds in memory, absent gradients, errors."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from support import mask_samples
from support.call import Call
from support.compare import Expectation, assert_same_bits
from support.dtypes import decode
from support.emulated import SHARED_SMALL, EmulatedCall, EmulatedKernels
from support.library import KernelError
from support.problem import Problem

from tools import kernel_tables

HEAD_DIMS = sorted({tile.head_dim for tile in kernel_tables.table("sm80", "Backward")})


def problem_of(head_dim: int = 64, **options) -> Problem:
    rng = np.random.default_rng(head_dim)
    seqlen_q, seqlen_k = options.pop("size", (130, 200))
    startend, causal = mask_samples.sample_mask("random_2", rng, 1, 1, seqlen_q, seqlen_k)
    defaults = {
        "batch": 1,
        "seqlen_q": seqlen_q,
        "seqlen_k": seqlen_k,
        "heads_q": 2,
        "heads_kv": 1,
        "heads_mask": 1,
        "head_dim": head_dim,
        "head_dim_v": head_dim,
        "dtype": "bfloat16",
        "causal": causal,
        "startend": startend,
        "dropout": 0.2,
        "sink": True,
        "dlse": True,
        "seed": 5,
        "data_seed": head_dim,
    }
    return Problem(**{**defaults, **options})


@pytest.mark.parametrize("multiprocessors", [1, 100])
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_same_bits_in_every_order_of_execution(emulated: EmulatedKernels, head_dim: int, multiprocessors: int) -> None:
    call = EmulatedCall(emulated, problem_of(head_dim), deterministic=True, multiprocessors=multiprocessors)
    runs = []
    for seed in range(4):
        emulated.configure(seed)
        runs.append({**call.forward(), **call.backward()})
    for seed, run in enumerate(runs[1:], 1):
        assert_same_bits(runs[0], run, f"between seeds 0 and {seed}")


def test_deterministic_with_little_shared_memory(emulated: EmulatedKernels) -> None:
    emulated.configure(1, shared_limit=SHARED_SMALL)
    problem = problem_of(256)
    call = EmulatedCall(emulated, problem, deterministic=True)
    Expectation(problem).check({**call.forward(), **call.backward()})


def test_deterministic_without_queries(emulated: EmulatedKernels) -> None:
    emulated.configure(1)
    problem = problem_of(size=(0, 70), sink=False)
    call = EmulatedCall(emulated, problem, deterministic=True)
    Expectation(problem).check({**call.forward(), **call.backward()})


def test_seed_in_memory(emulated: EmulatedKernels) -> None:
    emulated.configure(1)
    call = EmulatedCall(emulated, problem_of(), deterministic=True)
    by_value = {**call.forward(), **call.backward()}
    call.pointer_seed()
    assert_same_bits(by_value, {**call.forward(), **call.backward()}, "between a seed by value and by pointer")


def test_another_seed_drops_others(emulated: EmulatedKernels) -> None:
    emulated.configure(1)
    first, second = (EmulatedCall(emulated, problem_of(seed=seed)).forward() for seed in (5, 6))
    assert not np.array_equal(first["out"], second["out"])
    assert np.array_equal(first["lse"], second["lse"])


@pytest.mark.parametrize("wanted", [("dquery",), ("dkey",), ("dvalue",), ("dsink",), ("dquery", "dvalue"), ()])
@pytest.mark.parametrize("deterministic", [False, True])
def test_only_some_gradients(emulated: EmulatedKernels, wanted: tuple[str, ...], deterministic: bool) -> None:
    emulated.configure(1)
    problem = problem_of()
    call = EmulatedCall(emulated, problem, deterministic, multiprocessors=100, gradients=wanted)
    Expectation(problem).check({**call.forward(), **call.backward()})


@pytest.mark.parametrize("deterministic", [False, True])
def test_gradient_of_lse_alone(emulated: EmulatedKernels, deterministic: bool) -> None:
    emulated.configure(1)
    problem = problem_of(dropout=0.0)
    call = EmulatedCall(emulated, problem, deterministic)
    call.forward()
    call.params.dout.data = None
    alone = call.backward()
    problem.inputs["dout"][...] = 0
    expectation = Expectation(problem)
    # A zero dout makes dvalue exactly zero.
    assert not alone["dvalue"].any()
    expectation.check(alone)


@pytest.mark.parametrize("deterministic", [False, True])
def test_dropout_of_a_part_of_a_sequence(emulated: EmulatedKernels, deterministic: bool) -> None:
    emulated.configure(1)
    problem = problem_of(dropout_place=(32, 208))
    call = EmulatedCall(emulated, problem, deterministic)
    Expectation(problem).check({**call.forward(), **call.backward()})


def test_agrees_with_the_cpu_kernels(emulated: EmulatedKernels, kernels) -> None:
    emulated.configure(1)
    problem = problem_of(dtype="float16")
    on_cpu = Call(kernels, problem)
    on_gpu = EmulatedCall(emulated, problem)
    ours, theirs = on_gpu.forward(), on_cpu.forward()
    np.testing.assert_allclose(ours["out"], theirs["out"], atol=2e-3)
    np.testing.assert_allclose(ours["lse"], theirs["lse"], atol=2e-3)


def test_a_failed_launch_surfaces_at_the_call(emulated: EmulatedKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    call = EmulatedCall(emulated, problem_of())
    monkeypatch.setattr(call, "_inputs", {name: call._inputs[name] for name in call._inputs if name != "key"})
    with pytest.raises(KernelError, match="the forward kernel could not be launched: block"):
        call.forward()


ROWS = ("query", "key", "value", "out", "dout", "dquery", "dkey", "dvalue")
FAR = 2**33  # bytes, 2^32 elements


@pytest.mark.parametrize("capability", [80, 90])
def test_batches_more_than_2_to_the_31_elements_apart(emulated: EmulatedKernels, capability: int) -> None:
    """The second batch of every tensor lies 8 GiB behind the first; memory between them is out of bounds."""
    emulated.configure(1, compute_capability=capability)
    problem = problem_of(batch=2, startend=None, causal=True, dropout=0.0)
    call = EmulatedCall(emulated, problem, deterministic=True)
    expected = {**call.forward(), **call.backward()}

    reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)
    room = mmap.mmap(-1, FAR + 2**24, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | reserve)
    memory = np.frombuffer(room, dtype=np.uint8)
    pieces = {}
    for number, name in enumerate(ROWS):
        array = (call._inputs[name][0] if name in call._inputs else call._outputs[name]).array
        views = []
        for batch in range(2):
            at = batch * FAR + number * 2**20
            views.append(memory[at : at + array[batch].nbytes].view(array.dtype).reshape(array[batch].shape))
            views[batch][...] = array[batch]
        pieces[name] = views
        tensor = getattr(call.params, name)
        tensor.data, tensor.stride_batch = views[0].ctypes.data, FAR // array.itemsize
        tensor.stride_seq, tensor.stride_head = (stride // array.itemsize for stride in views[0].strides[:2])

    call._inputs = {name: array for name, array in call._inputs.items() if name not in pieces}
    call._outputs = {name: array for name, array in call._outputs.items() if name not in pieces}
    for name, views in pieces.items():
        for view in views:
            emulated.register(name, view.ctypes.data, view.nbytes, True)
    try:
        call._run(emulated.forward_workspace, emulated.forward, ("lse",))
        call._run(emulated.backward_workspace, emulated.backward, ("dsink",))
    finally:
        for views in pieces.values():
            for view in views:
                emulated.unregister(view.ctypes.data)
    found = {name: decode(np.stack(pieces[name]), problem.dtype) for name in pieces if name in expected}
    assert_same_bits({name: expected[name] for name in found}, found, "with batches far apart")
