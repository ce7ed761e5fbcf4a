"""Scan of the machine code of the sm90 kernels for register hazards, which neither ptxas nor the GPU reports.

    python3 -m tools.sass_hazards

* An HGMMA reads and writes its registers asynchronously, from its issue until a `WARPGROUP.DEPBAR` has waited for its
  group. Until then no other instruction may touch the accumulators or overwrite an operand in registers. The scan
  follows every path through the kernel.
* `setmaxnreg` limits the registers of a warp. The code of each role must not name one beyond its limit.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from tools import sass
from tools.sass_flow import Function, Instruction, parse

_SHAPE = re.compile(r"\.64x(\d+)x16\.")
_OPERAND_REGISTERS = 4  # per thread: 64 x 16 elements of 16 bits over 128 threads


@dataclass(frozen=True)
class Finding:
    """One violation: the kernel, the rule, and the instruction that breaks it."""

    symbol: str
    problem: str
    instruction: str

    def __str__(self) -> str:
        return f"{self.symbol}: {self.instruction}: {self.problem}"


@dataclass(frozen=True)
class _Product:
    """Registers of one HGMMA: the accumulators, and the left operand if it is in registers."""

    accumulators: frozenset[int]
    left: frozenset[int]


def _product(instruction: Instruction) -> _Product:
    columns = int(_SHAPE.search(instruction.name)[1])
    first = int(instruction.operands[0].removeprefix("R"))
    in_registers = re.fullmatch(r"R(\d+)", instruction.operands[1])
    left = range(int(in_registers[1]), int(in_registers[1]) + _OPERAND_REGISTERS) if in_registers else ()
    return _Product(frozenset(range(first, first + columns // 2)), frozenset(left))


# HGMMAs in flight: index -> number of groups committed since, including its own; 0: its group is still open.
_InFlight = dict[int, int]


def register_hazards(function: Function) -> list[Finding]:
    """Return each instruction that conflicts with an HGMMA in flight on some path."""
    products = {i: _product(x) for i, x in enumerate(function.instructions) if x.named("HGMMA")}
    index_of = {id(x): i for i, x in enumerate(function.instructions)}

    def step(instruction: Instruction, state: _InFlight) -> _InFlight:
        index = index_of[id(instruction)]
        if index in products:
            after = {**state, index: 0}
            if instruction.operands[-1] == "gsb0":
                after = {product: age + 1 for product, age in after.items()}
            return after
        if instruction.named("WARPGROUP") and ".DEPBAR" in instruction.name:
            pending = int(instruction.operands[-1], 16)
            return {product: age for product, age in state.items() if age <= pending}
        return state

    def join(one: _InFlight, other: _InFlight) -> _InFlight:
        ages = {product: min(one.get(product, age), age) for product, age in other.items()}
        return {**one, **ages}

    findings = []
    for index, state in enumerate(function.flow({}, step, join)):
        if not state:
            continue
        instruction = function.instructions[index]
        for product in state:
            problem = _conflict(products[product], instruction, products.get(index))
            if problem:
                issued = function.instructions[product]
                findings.append(Finding(function.symbol, f"{problem} of {issued}", str(instruction)))
                break
    return findings


def _conflict(flying: _Product, instruction: Instruction, product: _Product | None) -> str:
    if product is not None:
        # HGMMAs into the same accumulators run in order. Accumulators in flight cannot be an operand.
        if product.left & flying.accumulators:
            return "reads the accumulators in flight"
        same = product.accumulators == flying.accumulators
        overlaps = bool(product.accumulators & flying.accumulators)
        return "overlaps the accumulators in flight" if overlaps and not same else ""
    if instruction.touched & flying.accumulators:
        return "touches the accumulators in flight"
    return "overwrites the operand in flight" if instruction.written & flying.left else ""


def registers_after_setmaxnreg(function: Function) -> dict[int, int]:
    """Map each `setmaxnreg` limit to the register count of the code that runs under it (highest index plus one)."""
    needed: dict[int, int] = {}

    def step(instruction: Instruction, limits: frozenset[int]) -> frozenset[int]:
        if instruction.named("USETMAXREG"):
            return frozenset({int(instruction.operands[-1], 16)})
        return limits

    states = function.flow(frozenset(), step, frozenset.union)
    for instruction, limits in zip(function.instructions, states, strict=True):
        for limit in limits or ():
            needed[limit] = max(needed.get(limit, 0), *(register + 1 for register in instruction.touched or {-1}))
    return needed


def register_overruns(function: Function) -> list[Finding]:
    """Return the roles whose code names a register beyond its `setmaxnreg` limit."""
    return [
        Finding(function.symbol, f"needs {needed} registers", f"setmaxnreg {limit}")
        for limit, needed in registers_after_setmaxnreg(function).items()
        if needed > limit
    ]


def findings_in(text: str) -> list[Finding]:
    """Return the hazards and overruns of every function in the output of `cuobjdump -sass`."""
    return [finding for f in parse(text) for finding in (*register_hazards(f), *register_overruns(f))]


def main() -> None:
    texts = sass.sm90_machine_code(*sass.find_tools())
    findings = [finding for text in texts for finding in findings_in(text)]
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{sum(len(parse(text)) for text in texts)} kernels scanned, {len(findings)} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
