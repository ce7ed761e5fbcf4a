"""Import of the packages of peers, which may be absent or refuse the machine."""

from __future__ import annotations

import importlib
from types import ModuleType

from tools.gpu_check.outcome import NotRun


def import_first(*modules: str) -> ModuleType:
    """First of these modules that can be imported. Raises NotRun with the reason for each if there is none."""
    reasons = []
    for name in modules:
        try:
            return importlib.import_module(name)
        except Exception as reason:  # a package may raise anything where a driver or a library is missing
            reasons.append(f"{name}: {type(reason).__name__}: {reason}")
    raise NotRun("cannot be imported: " + "; ".join(reasons))
