"""What Paddle lacks on the CPU and fleet's parallel training needs, made of what Gloo has.

Paddle 3.3 registers `c_identity` and `c_concat` for GPUs only. Its Gloo groups have neither `all_reduce_on_calc_stream`
nor `reduce_scatter`, and groups of the same size find each other's addresses. Stages 2 and 3 of sharding ask for the
number of a GPU, and free a parameter before they copy it. The substitutes make parallel training checkable without
GPUs, not fast: some send more than NCCL would.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import paddle
import paddle.distributed as dist
import paddle.distributed.sharding
from paddle.base import core
from paddle.distributed.fleet.layers.mpu import mp_ops
from paddle.distributed.fleet.meta_parallel import tensor_parallel
from paddle.distributed.fleet.meta_parallel.sharding import (
    group_sharded_optimizer_stage2,
    group_sharded_stage2,
    group_sharded_stage3,
    group_sharded_storage,
    group_sharded_utils,
)

_SHARDING = (
    group_sharded_optimizer_stage2,
    group_sharded_stage2,
    group_sharded_stage3,
    group_sharded_storage,
    group_sharded_utils,
)
_SEGMENT_SIZE = 256
"""Elements of the largest parameter that stage 3 leaves whole. Paddle's 2^20 would leave small models whole."""
_RENDEZVOUS_SECONDS = 300
_new_group = dist.collective._new_process_group_impl
_add_to_storage = group_sharded_storage.ParamStorage.add_rank_params
_stores: list[Any] = []  # of the groups, which do not keep theirs alive


@contextlib.contextmanager
def gloo_groups() -> Iterator[None]:
    """Give every Gloo group made meanwhile a store of its own to find its members in."""
    with _replaced([_GROUPS]):
        yield


@contextlib.contextmanager
def gloo_collectives() -> Iterator[None]:
    """Put the substitutes in the place of Paddle's functions for a run on the CPU."""
    replacements: list[tuple[Any, str, Any]] = [
        _GROUPS,
        (core.ProcessGroup, "all_reduce_on_calc_stream", _all_reduce_on_calc_stream),
        (mp_ops, "_C_ops", _Operators(mp_ops._C_ops)),
        (dist.collective, "_c_concat", _concatenated),
        (dist.stream, "reduce_scatter", _reduce_scatter),
        (tensor_parallel, "broadcast_input_data", _same_inputs),
        (dist.sharding, "group_sharded_parallel", _group_sharded_parallel),
        (group_sharded_storage.ParamStorage, "add_rank_params", _add_rank_params),
        (group_sharded_stage3, "_device2cpu", _copy_of),
    ]
    replacements += [(module, "paddle", _NumberedCPU(paddle)) for module in _SHARDING]
    replacements += [(module, "core", _NumberedCPU(core)) for module in _SHARDING if hasattr(module, "core")]
    with _replaced(replacements):
        yield


@contextlib.contextmanager
def _replaced(replacements: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set attributes, (owner, name, value), and set them back."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in replacements:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _new_group_with_store(backend, store, rank, world_size, group_name, pg_options, group_id=0, **options):
    if backend != "gloo" or group_id == 0:
        return _new_group(backend, store, rank, world_size, group_name, pg_options, group_id, **options)
    key = f"store_of_group_{group_id}"
    if rank == 0:
        host = dist.ParallelEnv().current_endpoint.partition(":")[0]
        with socket.socket() as free:
            free.bind((host, 0))
            port = free.getsockname()[1]
        store.set(key, f"{host}:{port}".encode())
    else:
        host, _, port = bytes(store.get(key)).decode().partition(":")
    _stores.append(core.TCPStore(host, int(port), rank == 0, world_size, _RENDEZVOUS_SECONDS))
    return core.ProcessGroupGloo.create(_stores[-1], rank, world_size, group_id)


_GROUPS = (dist.collective, "_new_process_group_impl", _new_group_with_store)


class _Operators:
    """Paddle's operators, with an identity for the CPU."""

    def __init__(self, operators: Any):
        self._operators = operators

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operators, name)

    def c_identity(self, x: paddle.Tensor, *options: Any) -> paddle.Tensor:
        return x.clone()


class _Concatenation(paddle.autograd.PyLayer):
    """The parts of all ranks, joined along the last axis; each rank keeps the gradient of its own."""

    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        parts: list[paddle.Tensor] = []
        dist.all_gather(parts, x, group=group)
        return paddle.concat(parts, axis=-1)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.split(ctx.group.nranks, axis=-1)[ctx.group.rank]


def _concatenated(x: paddle.Tensor, group: Any = None) -> paddle.Tensor:
    return _Concatenation.apply(x, group)


def _all_reduce_on_calc_stream(group: Any, tensor: paddle.Tensor, operation: Any, *options: Any) -> None:
    group.all_reduce(tensor, operation, True).wait()


def _reduce_scatter(output, tensor, op=dist.ReduceOp.SUM, group=None, sync_op=True) -> None:
    total = tensor.clone()
    dist.all_reduce(total, op, group=group)
    paddle.assign(total.split(group.nranks, axis=0)[group.rank], output)


def _same_inputs(groups: Any, *inputs: Any, **named: Any) -> tuple[tuple, dict[str, Any]]:
    """Every rank of a tensor parallel group makes the same batch, so the first need not send its own."""
    return inputs, named


class _NumberedCPU:
    """A module of Paddle in which the CPU is a device with a number, as stages 2 and 3 of sharding need it."""

    def __init__(self, module: Any):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return self if name == "device" else getattr(self._module, name)

    def get_device(self) -> str:
        return "cpu:0"

    def set_device(self, device: str) -> Any:
        return self._module.set_device("cpu")

    def is_compiled_with_cuda(self) -> bool:
        return True


def _group_sharded_parallel(
    model: Any, optimizer: Any, level: str, scaler: None, group: Any, offload: bool, dp_group: Any, exclude_layer: Any
) -> tuple[Any, Any, None]:
    """Paddle's function without its check of the device, with stage 3 for parameters above _SEGMENT_SIZE."""
    options = {"group": group, "dp_group": dp_group, "device": "cpu"}
    if level == "p_g_os":
        options |= {"segment_size": _SEGMENT_SIZE, "exclude_layer": exclude_layer}
        return group_sharded_stage3.GroupShardedStage3(model, optimizer=optimizer, **options), optimizer, scaler
    optimizer = group_sharded_optimizer_stage2.GroupShardedOptimizerStage2(
        params=optimizer._parameter_list, optim=optimizer, **options
    )
    return group_sharded_stage2.GroupShardedStage2(model, optimizer, **options), optimizer, scaler


def _add_rank_params(storage: Any, parameters: Any, alignments: Any, convert_gpu: bool = True) -> None:
    """Copy the parameters within the memory of the CPU."""
    _add_to_storage(storage, parameters, alignments, convert_gpu=False)


def _copy_of(tensor: paddle.Tensor, convert_dtype: bool = False) -> paddle.Tensor:
    return tensor.astype("float32") if convert_dtype else tensor.clone()
