"""Control flow graph of machine code, with the registers that each instruction names.

Parses the text of `cuobjdump -sass`. General registers only: predicates and uniform registers are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

State = TypeVar("State")

_LINE = re.compile(r"^\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+(?:@(?P<guard>!?U?P\w+)\s+)?(?P<text>[A-Z][^;]*?)\s*;", re.M)
_REGISTER = re.compile(r"(?<![A-Z0-9_])R(\d+)(\.64)?")
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$")
# Instructions whose first operand is an address or a source.
_NO_RESULT = ("ST", "RED", "UTMA", "SYNCS", "BRA", "BRX", "RET", "CALL", "BAR", "EXIT", "NANOSLEEP", "UBLK", "CCTL")
# Registers per operand, by the width in the suffix.
_WIDTHS = {"64": 2, "128": 4, "WIDE": 2}


@dataclass(frozen=True)
class Instruction:
    """One line of machine code."""

    address: int
    guard: str  # "P0", "!UP1"; "": unconditional
    name: str  # with all suffixes: "HGMMA.64x128x16.F32.BF16"
    operands: tuple[str, ...]

    def __str__(self) -> str:
        guard = f"@{self.guard} " if self.guard else ""
        return f"{self.address:#06x}: {guard}{self.name} {', '.join(self.operands)}".rstrip()

    def named(self, name: str) -> bool:
        """Tell whether this is `name`, with any suffixes."""
        return self.name == name or self.name.startswith(f"{name}.")

    @property
    def _width(self) -> int:
        return max((_WIDTHS.get(part, 1) for part in self.name.split(".")[1:]), default=1)

    @property
    def written(self) -> frozenset[int]:
        """Return the registers of the result."""
        if not self.operands or self.name.startswith(_NO_RESULT):
            return frozenset()
        return frozenset(_registers(self.operands[:1], self._width))

    @property
    def touched(self) -> frozenset[int]:
        """Return the registers of all operands."""
        if self.name.startswith(("LD", "ST", "RED", "ATOM")):
            values = [operand for operand in self.operands if "[" not in operand]
            addresses = [operand for operand in self.operands if "[" in operand]
            return frozenset([*_registers(values, self._width), *_registers(addresses, 1)])
        return self.written | frozenset(_registers(self.operands, 1))


def _registers(operands: Iterable[str], width: int) -> list[int]:
    found = []
    for operand in operands:
        for match in _REGISTER.finditer(operand):
            first = int(match[1])
            found += range(first, first + (2 if match[2] else width))
    return found


@dataclass(frozen=True)
class Function:
    """A kernel. `successors[i]` holds the indices of the instructions that can follow instruction i."""

    symbol: str
    instructions: tuple[Instruction, ...]
    successors: tuple[tuple[int, ...], ...]

    def flow(
        self, start: State, step: Callable[[Instruction, State], State], join: Callable[[State, State], State]
    ) -> list[State | None]:
        """Run a forward data flow analysis and return the state before each instruction; None: unreachable.

        `step` is the transfer function and `join` merges the states of two paths. `step` must be monotonic with respect
        to `join`, or loops never reach a fixed point.
        """
        before: list[State | None] = [None] * len(self.instructions)
        before[0] = start
        waiting = [0]
        while waiting:
            index = waiting.pop()
            after = step(self.instructions[index], before[index])
            for successor in self.successors[index]:
                known = before[successor]
                joined = after if known is None else join(known, after)
                if joined != known:
                    before[successor] = joined
                    waiting.append(successor)
        return before


def parse(text: str) -> list[Function]:
    """Return the functions in the output of `cuobjdump -sass`.

    Raise ValueError for a jump that leaves its function.
    """
    functions = []
    for part in re.split(r"^\s*Function : ", text, flags=re.M)[1:]:
        symbol, _, body = part.partition("\n")
        instructions = tuple(_instruction(match) for match in _LINE.finditer(body))
        functions.append(Function(symbol.strip(), instructions, _successors(symbol.strip(), instructions)))
    return functions


def _instruction(match: re.Match[str]) -> Instruction:
    name, _, operands = match["text"].partition(" ")
    parts = tuple(operand.strip() for operand in operands.split(",") if operand.strip())
    return Instruction(int(match["address"], 16), match["guard"] or "", name, parts)


def _successors(symbol: str, instructions: tuple[Instruction, ...]) -> tuple[tuple[int, ...], ...]:
    index_of = {instruction.address: index for index, instruction in enumerate(instructions)}
    found = [_jumps(symbol, index, instructions, index_of) for index in range(len(instructions))]
    # The jump table of BRX is not in the text. Its targets are the instructions that nothing else reaches.
    reconvergence = {_target(symbol, x, index_of) for x in instructions if x.named("BSSY")}
    reached = reconvergence.union({0}, *found)
    targets = {index for index in range(len(instructions)) if index not in reached}
    for index, instruction in enumerate(instructions):
        if instruction.named("BRX"):
            found[index] |= targets
    _link_reconvergence(symbol, instructions, index_of, found)
    return tuple(tuple(sorted(following)) for following in found)


def _jumps(symbol: str, index: int, instructions: tuple[Instruction, ...], index_of: dict[int, int]) -> set[int]:
    """Return the successors of an instruction, except those of BSYNC."""
    instruction = instructions[index]
    following = {index + 1} if index + 1 < len(instructions) else set()
    always = instruction.guard in ("", "PT", "UPT")
    if instruction.named("BRA"):
        # "BRA P1, target", "BRA.DIV UR4, target" and "BRA.U.ANY target" have conditions beside the guard.
        plain = instruction.name == "BRA" and len(instruction.operands) == 1
        return {_target(symbol, instruction, index_of)} | (set() if plain and always else following)
    if instruction.named("CALL") or instruction.name == "WARPSYNC.COLLECTIVE":
        return following | {_target(symbol, instruction, index_of)}
    if instruction.named("EXIT") or instruction.named("RET") or instruction.named("BRX"):
        return set() if always else following
    if instruction.named("BSYNC"):
        return set()
    return following


def _link_reconvergence(
    symbol: str, instructions: tuple[Instruction, ...], index_of: dict[int, int], found: list[set[int]]
) -> None:
    """Add the successors of each BSYNC Bn: the targets of every BSSY Bn that reaches it."""
    barriers: list[frozenset[tuple[str, int]] | None] = [None] * len(instructions)
    barriers[0] = frozenset()
    waiting = [0]
    while waiting:
        index = waiting.pop()
        instruction, known = instructions[index], barriers[index]
        if instruction.named("BSSY"):
            barrier = instruction.operands[0]
            target = _target(symbol, instruction, index_of)
            known = frozenset({(barrier, target)} | {entry for entry in known if entry[0] != barrier})
        elif instruction.named("BSYNC"):
            found[index] |= {target for barrier, target in known if barrier == instruction.operands[0]}
        for successor in found[index]:
            before = barriers[successor]
            joined = known if before is None else before | known
            if joined != before:
                barriers[successor] = joined
                waiting.append(successor)


def _target(symbol: str, instruction: Instruction, index_of: dict[int, int]) -> int:
    match = _TARGET.search(instruction.operands[-1])
    if match is None or int(match[1], 16) not in index_of:
        raise ValueError(f"{symbol}: no target inside the function in {instruction}")
    return index_of[int(match[1], 16)]
