"""The result of a verification."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """name: what must hold. checked: how many times it was tested. wrong: how many times it failed. detail: figures."""

    name: str
    checked: int
    wrong: int
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.wrong == 0


@dataclass(frozen=True)
class Report:
    """checks: those of one batch, or of several joined."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds. A check that tested nothing does not count."""
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        """A table with a line per check."""
        width = max(len(check.name) for check in self.checks)
        lines = [f"{'check':{width}} {'tested':>10} {'wrong':>10}"]
        for check in self.checks:
            state = "-" if not check.checked else "ok" if check.passed else "FAILED"
            line = f"{check.name:{width}} {check.checked:>10,} {check.wrong:>10,}  {state:6} {check.detail}"
            lines.append(line.rstrip())
        return "\n".join(lines)


def joined(reports: Iterable[Report]) -> Report:
    """Sum the checks of the same name. The detail is that of the first failure, or else the last one."""
    found: dict[str, Check] = {}
    for check in (check for report in reports for check in report.checks):
        before = found.get(check.name, check)
        if before is check:
            found[check.name] = check
            continue
        detail = check.detail if before.passed else before.detail
        found[check.name] = Check(check.name, before.checked + check.checked, before.wrong + check.wrong, detail)
    return Report(tuple(found.values()))
