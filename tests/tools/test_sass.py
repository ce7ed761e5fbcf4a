"""Machine code of the kernels for compute capability 9.0: warpgroup matrix products, tensor copies, no local memory."""

from __future__ import annotations

from collections import Counter

import pytest

from tools import compile_cuda, sass

TEXT = """
Fatbin elf code:
	code for sm_90a
		Function : _ZN3pfm4cuda4sm907ForwardINS0_3ptx8BFloat16ELi1EEEvNS1_16ForwardArgumentsE
        /*0000*/                   LDC R1, c[0x0][0x28] ;              /* 0x00000a00ff017b82 */
                                                                       /* 0x000fe20000000800 */
        /*0010*/              @!P0 HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0020*/              @UP1 UIADD3 UR4, UR4, 0x1, URZ ;
        /*0030*/                   MUFU.EX2 R3, R4 ;
        /*0040*/                   MUFU.RCP R3, R4 ;
		Function : other
        /*10000*/                  EXIT ;
"""


def test_instructions_are_counted() -> None:
    functions = sass.functions_in(TEXT)
    assert list(functions)[1] == "other" and functions["other"] == Counter({"EXIT": 1})
    forward = next(iter(functions.values()))
    assert forward.total() == 5 and forward["UIADD3"] == 1
    assert (
        sass.count(forward, "HGMMA") == 1 and sass.count(forward, "MUFU") == 2 and sass.count(forward, "MUFU.EX2") == 1
    )


@pytest.fixture(scope="module")
def kernels(machine_code: list[str]) -> list[tuple[tuple, Counter[str]]]:
    rows = compile_cuda.table_rows()
    functions = [function for text in machine_code for function in sass.functions_in(text).items()]
    return [(compile_cuda.identity_of(symbol, rows), counts) for symbol, counts in functions]


def test_every_row_of_the_tables_is_compiled(kernels) -> None:
    compiled = {(name, dtype, head_dims) for (name, dtype, head_dims, _, _), _ in kernels}
    expected = {
        (name, dtype, head_dims)
        for (folder, name, _), (head_dims, _, _) in compile_cuda.table_rows().items()
        for dtype in ("fp16", "bf16")
        if folder == "sm90"
    }
    assert expected <= compiled


def test_products_and_copies_are_those_of_sm90(kernels) -> None:
    for identity, instructions in kernels:
        if identity[0] not in ("Forward", "Backward"):
            continue
        for name in ("HGMMA", "UTMALDG", "UTMASTG", "USETMAXREG"):
            assert sass.count(instructions, name) > 0, (identity, name)
        for name in ("HMMA", "LDGSTS", "STL", "LDL"):
            assert sass.count(instructions, name) == 0, (identity, name)


def test_a_look_at_an_mbarrier_does_not_suspend_the_thread(kernels) -> None:
    """The loader of the forward looks whether the next tile is known before it loads values."""
    for (name, *_), instructions in kernels:
        if name == "Forward":
            looks = sass.count(instructions, "SYNCS.PHASECHK") - sass.count(
                instructions, "SYNCS.PHASECHK.TRANS64.TRYWAIT"
            )
            assert looks > 0, instructions


def test_only_partial_tiles_pay_for_the_mask(kernels) -> None:
    """A forward kernel computes exp2 over a tile in three places: the first tile, and the loops over full and partial
    tiles. Two of them turn mask bits into predicates (R2P)."""
    for (name, _, _, tile, _), instructions in kernels:
        if name != "Forward":
            continue
        scores = int(tile.split("x")[1]) // 2  # of a lane
        assert 3 * scores <= sass.count(instructions, "MUFU.EX2") < 4 * scores, tile
        assert sass.count(instructions, "R2P") <= 2 * (scores // 7 + 1), tile
