"""Register hazards in the machine code of the sm90 kernels: none in the build, and planted faults are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools import sass_hazards
from tools.sass_flow import Function, Instruction, parse


@pytest.fixture(scope="module")
def kernels(machine_code: list[str]) -> list[Function]:
    return [function for text in machine_code for function in parse(text)]


@pytest.fixture(scope="module")
def bfloat16_kernels(kernels: list[Function]) -> list[Function]:
    """The kernels of one dtype. Those of float16 differ in the names of a few instructions only."""
    return [function for function in kernels if "BFloat16" in function.symbol]


def with_instruction(function: Function, index: int, **changes) -> Function:
    """Return a copy of `function` with fields of one instruction replaced."""
    instructions = list(function.instructions)
    instructions[index] = replace(instructions[index], **changes)
    return replace(function, instructions=tuple(instructions))


def waits_of(function: Function) -> list[int]:
    return [i for i, instruction in enumerate(function.instructions) if ".DEPBAR" in instruction.name]


def with_relaxed_wait(function: Function, index: int) -> Function:
    """Let one more group of HGMMAs stay in flight behind the wait at `index`."""
    *rest, pending = function.instructions[index].operands
    return with_instruction(function, index, operands=(*rest, hex(int(pending, 16) + 1)))


def test_the_build_has_no_hazards(kernels) -> None:
    assert len(kernels) >= 26
    for kernel in kernels:
        assert not [*sass_hazards.register_hazards(kernel), *sass_hazards.register_overruns(kernel)]


def test_every_instruction_is_reached(kernels) -> None:
    """The scan proves nothing about code that the control flow graph does not reach. NOPs and a jump to itself pad the
    end of a function."""
    for kernel in kernels:
        states = kernel.flow(0, lambda _, state: state, max)
        unreached = [x for x, state in zip(kernel.instructions, states, strict=True) if state is None]
        assert {x.name for x in unreached} <= {"NOP", "BRA"}, kernel.symbol


def test_every_role_has_a_register_limit(kernels) -> None:
    for kernel in kernels:
        limits = sass_hazards.registers_after_setmaxnreg(kernel)
        assert len(limits) == 2 and min(limits) <= 56 < max(limits), kernel.symbol


def test_a_relaxed_wait_is_found(bfloat16_kernels) -> None:
    """Each wait of the forward guards registers. Some of the backward only guard shared memory that is reused."""
    for kernel in bfloat16_kernels:
        waits = waits_of(kernel)
        caught = [bool(sass_hazards.register_hazards(with_relaxed_wait(kernel, wait))) for wait in waits]
        expected = len(waits) if "Forward" in kernel.symbol else 2
        assert len(waits) >= 3 and sum(caught) >= expected, kernel.symbol


def test_a_touched_accumulator_is_found(bfloat16_kernels) -> None:
    """An instruction that reads an accumulator right behind the HGMMA that commits a group."""
    for kernel in bfloat16_kernels:
        commits = [i for i, x in enumerate(kernel.instructions) if x.named("HGMMA") and x.operands[-1] == "gsb0"]
        assert commits, kernel.symbol
        for commit in commits:
            accumulator = kernel.instructions[commit].operands[0]
            for following in kernel.successors[commit]:
                planted = with_instruction(kernel, following, name="FADD", operands=("R0", accumulator, "RZ"))
                found = sass_hazards.register_hazards(planted)
                assert any("touches the accumulators in flight" in finding.problem for finding in found)


def test_a_register_beyond_the_limit_is_found(bfloat16_kernels) -> None:
    for kernel in bfloat16_kernels:
        limits = [(i, int(x.operands[-1], 16)) for i, x in enumerate(kernel.instructions) if x.named("USETMAXREG")]
        assert len(limits) == 2, kernel.symbol
        for index, limit in limits:
            (following,) = kernel.successors[index]
            for register, expected in ((limit - 1, 0), (limit, 1)):
                planted = with_instruction(kernel, following, guard="", name="MOV", operands=(f"R{register}", "RZ"))
                assert len(sass_hazards.register_overruns(planted)) == expected


def function_of(*lines: str) -> Function:
    """Assemble lines at 0x0000, 0x0010 and so on into the text that cuobjdump prints, and parse it."""
    body = "\n".join(f"        /*{16 * i:04x}*/  {line} ;  /* 0x0 */" for i, line in enumerate(lines))
    (function,) = parse(f"\t\tFunction : kernel\n{body}\n")
    return function


HGMMA = "HGMMA.64x8x16.F32.BF16 R24, gdesc[UR4], R24, !UPT, gsb0"
WAIT = "WARPGROUP.DEPBAR.LE gsb0, 0x0"


def problems(*lines: str) -> list[str]:
    return [finding.problem.split(" of ")[0] for finding in sass_hazards.register_hazards(function_of(*lines))]


def test_an_instruction_names_its_registers() -> None:
    load, store, product = (
        Instruction(0, "", name, operands)
        for name, operands in [
            ("LDS.128", ("R4", "[R9+UR4]")),
            ("STG.E.64", ("desc[UR4][R2.64]", "R6")),
            ("IMAD.WIDE", ("R8", "R3", "0x4", "R12")),
        ]
    )
    assert load.written == {4, 5, 6, 7} and load.touched == {4, 5, 6, 7, 9}
    assert store.written == frozenset() and store.touched == {2, 3, 6, 7}
    assert product.written == {8, 9} and {3, 8, 9, 12} <= product.touched


def test_accumulators_are_free_after_the_wait() -> None:
    assert problems(HGMMA, WAIT, "FADD R1, R24, RZ", "EXIT") == []
    assert problems(HGMMA, "FADD R1, R24, RZ", WAIT, "EXIT") == ["touches the accumulators in flight"]
    assert problems(HGMMA, "FADD R1, R28, RZ", WAIT, "EXIT") == []  # one beyond the last accumulator


def test_an_operand_in_registers_may_be_read_but_not_overwritten() -> None:
    product = "HGMMA.64x8x16.F32.BF16 R24, R8, gdesc[UR4], R24, gsb0"
    assert problems(product, "FADD R1, R8, RZ", WAIT, "EXIT") == []
    assert problems(product, "FADD R11, R1, RZ", WAIT, "EXIT") == ["overwrites the operand in flight"]


def test_products_overlap_only_in_the_same_accumulators() -> None:
    shifted = HGMMA.replace("R24", "R26")
    reading = "HGMMA.64x8x16.F32.BF16 R40, R24, gdesc[UR4], R40, gsb0"
    assert problems(HGMMA, HGMMA, WAIT, "EXIT") == []
    assert problems(HGMMA, shifted, WAIT, "EXIT") == ["overlaps the accumulators in flight"]
    assert problems(HGMMA, reading, WAIT, "EXIT") == ["reads the accumulators in flight"]


def test_a_wait_leaves_the_groups_that_it_allows() -> None:
    second = HGMMA.replace("R24", "R32")
    allow_one = WAIT.replace("0x0", "0x1")
    assert problems(HGMMA, second, allow_one, "FADD R1, R24, RZ", "EXIT") == []
    assert problems(HGMMA, second, allow_one, "FADD R1, R32, RZ", "EXIT") == ["touches the accumulators in flight"]


def test_an_open_group_stays_in_flight() -> None:
    uncommitted = HGMMA.replace(", gsb0", "")
    assert problems(uncommitted, WAIT, "FADD R1, R24, RZ", "EXIT") == ["touches the accumulators in flight"]


def test_a_guarded_jump_has_two_successors() -> None:
    """The wait is skipped where P0 holds."""
    assert problems(HGMMA, "@P0 BRA 0x30", WAIT, "FADD R1, R24, RZ", "EXIT") == ["touches the accumulators in flight"]
    assert function_of("@P0 BRA 0x20", "NOP", "EXIT").successors == ((1, 2), (2,), ())
    assert function_of("@!P0 EXIT", "BRA.U.ANY UP0, 0x0", "EXIT").successors == ((1,), (0, 2), ())


def test_a_loop_carries_what_is_in_flight() -> None:
    assert problems("FADD R1, R24, RZ", HGMMA, "@P0 BRA 0x0", WAIT, "EXIT") == ["touches the accumulators in flight"]
    assert problems("FADD R1, R24, RZ", HGMMA, WAIT, "@P0 BRA 0x0", "EXIT") == []


def test_bsync_continues_at_the_target_of_bssy() -> None:
    lines = ["BSSY B0, 0x50", "@P0 BRA 0x30", "BSYNC B0", WAIT, "BSYNC B0", "FADD R1, R24, RZ", "EXIT"]
    assert function_of(*lines).successors[2] == (5,) and function_of(*lines).successors[4] == (5,)
    assert problems(HGMMA, *(x.replace("0x50", "0x60").replace("0x30", "0x40") for x in lines)) == [
        "touches the accumulators in flight"
    ]


def test_brx_reaches_what_nothing_else_reaches() -> None:
    function = function_of("BRX R2 -0x10", "FADD R1, R24, RZ", "EXIT", "FADD R2, R24, RZ", "EXIT")
    assert function.successors[0] == (1, 3)


def test_a_jump_out_of_its_function_is_an_error() -> None:
    with pytest.raises(ValueError, match="kernel: no target inside the function in 0x0000: BRA 0x40"):
        function_of("BRA 0x40", "EXIT")
