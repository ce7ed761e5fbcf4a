"""Table of registers and spills from the output of ptxas, and the gate on spills."""

from __future__ import annotations

import sys

import pytest

from tools import compile_cuda

SYMBOL = "_ZN3pfm4cuda4sm8012_GLOBAL__N_17ForwardINS0_3ptx7Float16ELi1EEEvNS1_16ForwardArgumentsE"
LOG = f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{SYMBOL}' for 'sm_80'
ptxas info    : Function properties for {SYMBOL}
    16 bytes stack frame, 20 bytes spill stores, 28 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 640 bytes cmem[0]
ptxas info    : Compile time = 1.0 ms
ptxas info    : Compiling entry function '_ZN3pfm4cuda14PrepareColumnsENS0_9MaskTableE' for 'sm_90'
ptxas info    : Function properties for _ZN3pfm4cuda14PrepareColumnsENS0_9MaskTableE
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 56 registers, used 0 barriers, 600 bytes cmem[0]
"""


def kernel(spill_bytes: int, **changes) -> compile_cuda.Kernel:
    fields = {"name": "Backward", "dtype": "fp16", "head_dims": "128,128", "tile": "64x64", "arch": "sm_80"}
    return compile_cuda.Kernel(
        **{**fields, **changes}, shared_bytes="1", registers=255, stack_bytes=16, spill_bytes=spill_bytes
    )


def test_the_output_of_ptxas_is_parsed() -> None:
    rows = {("sm80", "Forward", "1"): ("96,96", "128x64", "67072"), ("sm90", "Forward", "1"): ("", "", "")}
    forward, prepare = compile_cuda.kernels_in(LOG, rows)
    assert forward == compile_cuda.Kernel("Forward", "fp16", "96,96", "128x64", "sm_80", "67072", 255, 16, 48)
    assert prepare == compile_cuda.Kernel("PrepareColumns", "", "", "", "sm_90", "", 56, 0, 0)


def test_kernels_for_sm90a_have_the_rows_of_their_own_table() -> None:
    log = LOG.replace("sm80", "sm90").replace("'sm_80'", "'sm_90a'")
    rows = {("sm80", "Forward", "1"): ("96,96", "128x64", "67072"), ("sm90", "Forward", "1"): ("64,64", "192x96", "5")}
    forward, _ = compile_cuda.kernels_in(log, rows)
    assert forward == compile_cuda.Kernel("Forward", "fp16", "64,64", "192x96", "sm_90a", "5", 255, 16, 48)
    assert forward.allowed_spill_bytes == 0


def test_every_allowed_spill_is_of_a_tile_that_exists() -> None:
    tiles = {(name, dims, tile) for (_, name, _), (dims, tile, _) in compile_cuda.table_rows().items()}
    assert {key[:3] for key in compile_cuda.ALLOWED_SPILLS} <= tiles
    assert not any(arch == "sm_90a" for *_, arch in compile_cuda.ALLOWED_SPILLS)


@pytest.mark.parametrize(
    ("kernels", "status", "printed"),
    [
        ([kernel(0), kernel(16)], 0, "2 kernels compiled, 0 spill more than allowed"),
        ([kernel(0), kernel(17)], 1, "2 kernels compiled, 1 spill more than allowed"),
        ([kernel(4, head_dims="64,64")], 1, "1 kernels compiled, 1 spill more than allowed"),
        ([], "no kernel", ""),
    ],
)
def test_the_gate(kernels, status, printed, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(compile_cuda, "compile_all", lambda: kernels)
    monkeypatch.setattr(sys, "argv", ["compile_cuda.py", "--csv", str(tmp_path / "table.csv")])
    with pytest.raises(SystemExit) as ended:
        compile_cuda.main()
    assert ended.value.code == status if isinstance(status, int) else status in str(ended.value)
    assert printed in capsys.readouterr().out
    assert not kernels or len((tmp_path / "table.csv").read_text().splitlines()) == 1 + len(kernels)
