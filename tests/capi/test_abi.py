"""C ABI: the header is C, its structures match those of ctypes, and invalid calls return a status and a message."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.call import Call
from support.library import INVALID_ARGUMENT, UNSUPPORTED, WORKSPACE_TOO_SMALL, KernelError, Kernels, Params, Tensor
from support.problem import Problem
from support.repository import REPOSITORY


def test_header_is_c_and_lays_out_the_structure_as_mirrored(tmp_path: Path) -> None:
    fields = [(structure, name) for structure in (Tensor, Params) for name, _ in structure._fields_]
    names = {Tensor: "pfm_tensor", Params: "pfm_params"}
    lines = [f'  printf("%zu\\n", offsetof({names[structure]}, {name}));' for structure, name in fields]
    lines += ['  printf("%zu %zu\\n", sizeof(pfm_tensor), sizeof(pfm_params));']
    source = tmp_path / "layout.c"
    source.write_text(
        '#include <stdio.h>\n#include "flashmask.h"\nint main(void) {\n' + "\n".join(lines) + "\n  return 0;\n}\n"
    )
    program = tmp_path / "layout"
    flags = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{REPOSITORY / 'csrc'}"]
    compiler = os.environ.get("CC", "gcc")
    build = subprocess.run([compiler, *flags, str(source), "-o", str(program)], capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    printed = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.split()
    expected = [getattr(structure, name).offset for structure, name in fields]
    assert [int(x) for x in printed] == [*expected, ctypes.sizeof(Tensor), ctypes.sizeof(Params)]


def test_library_exports_only_the_abi(kernels: Kernels) -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(kernels.path)], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listing.stdout.splitlines()}
    assert names == {
        "pfm_forward",
        "pfm_backward",
        "pfm_forward_workspace",
        "pfm_backward_workspace",
        "pfm_default_cpu_threads",
        "pfm_cpu_isa",
        "pfm_cuda_architectures",
        "pfm_cuda_compute_capability",
        "pfm_set_newest_cuda_kernels",
        "pfm_set_cpu_isa",
        "pfm_last_error",
    }


def columns(n: int) -> np.ndarray:
    return np.full((1, 1, 64, n), 64, dtype=np.int32)


@pytest.mark.parametrize(
    ("field", "value", "status", "message"),
    [
        ("struct_size", 8, INVALID_ARGUMENT, "struct_size is 8"),
        ("version", 99, INVALID_ARGUMENT, "version is 99"),
        ("device", 1, UNSUPPORTED, "CUDA"),
        ("device", 7, INVALID_ARGUMENT, "device is 7"),
        ("dtype", 3, INVALID_ARGUMENT, "dtype is 3"),
        ("batch", -1, INVALID_ARGUMENT, "batch is -1"),
        ("seqlen_q", 2**40, INVALID_ARGUMENT, "seqlen_q is 1099511627776"),
        ("seqlen_k", -5, INVALID_ARGUMENT, "seqlen_k is -5"),
        ("heads_q", 0, INVALID_ARGUMENT, "heads_q is 0"),
        ("heads_q", 2**33, INVALID_ARGUMENT, "8589934592"),
        ("heads_kv", 3, INVALID_ARGUMENT, "heads_kv is 3"),
        ("heads_mask", 3, INVALID_ARGUMENT, "heads_mask is 3"),
        ("head_dim", 257, INVALID_ARGUMENT, "head_dim is 257"),
        ("head_dim_v", 0, INVALID_ARGUMENT, "head_dim_v is 0"),
        ("causal", 2, INVALID_ARGUMENT, "causal is 2"),
        ("causal_offset", 2**40, INVALID_ARGUMENT, "causal_offset"),
        ("window_left", -2, INVALID_ARGUMENT, "window_left is -2"),
        ("window_right", 2**50, INVALID_ARGUMENT, "window_right"),
        ("startend_bounds", 3, INVALID_ARGUMENT, "startend_bounds is 3"),
        ("startend_bounds", 4, INVALID_ARGUMENT, "startend_bounds is 4"),
        ("startend_row_indices", None, INVALID_ARGUMENT, "startend_row_indices is null"),
        ("softmax_scale", float("nan"), INVALID_ARGUMENT, "softmax_scale is"),
        ("dropout", 1.0, INVALID_ARGUMENT, "dropout is 1"),
        ("dropout", float("nan"), INVALID_ARGUMENT, "dropout is"),
        ("softcap", 1.0, UNSUPPORTED, "softcap is 1"),
        ("num_splits", 2, UNSUPPORTED, "num_splits is 2"),
        ("num_workers", -1, INVALID_ARGUMENT, "num_workers is -1"),
        ("stream", 16, INVALID_ARGUMENT, "stream"),
        ("query", Tensor(), INVALID_ARGUMENT, "query.data is null"),
        ("lse", None, INVALID_ARGUMENT, "lse is null"),
        ("out", Tensor(), INVALID_ARGUMENT, "out.data is null"),
    ],
)
def test_wrong_arguments_are_refused(kernels: Kernels, field: str, value, status: int, message: str) -> None:
    call = Call(kernels, Problem(startend=columns(1), causal=True))
    call.forward()
    setattr(call.params, field, value)
    with pytest.raises(KernelError) as refused:
        call.forward()
    assert refused.value.status == status and message in refused.value.message


def test_workspace_is_checked(kernels: Kernels) -> None:
    call = Call(kernels, Problem())
    needed = kernels.forward_workspace(call.params)
    assert 0 < needed < 2**30
    memory = np.zeros(needed + 128, np.uint8)
    aligned = memory.ctypes.data + -memory.ctypes.data % 64
    for address, size, status in (
        (aligned, needed - 1, WORKSPACE_TOO_SMALL),
        (None, needed, INVALID_ARGUMENT),
        (aligned + 16, needed, INVALID_ARGUMENT),
    ):
        call.params.workspace, call.params.workspace_size = address, size
        with pytest.raises(KernelError) as refused:
            kernels.forward(call.params)
        assert refused.value.status == status and "workspace" in refused.value.message


def test_unknown_instruction_set_is_refused(kernels: Kernels) -> None:
    before = kernels.isa()
    with pytest.raises(KernelError, match="sse9"):
        kernels.set_isa("sse9")
    assert kernels.isa() == before
