"""Process of some cases of a part, started by runner.py: python3 -m tools.gpu_check.worker MODULE FUNCTION ..."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import time
from pathlib import Path

from .journal import FILE, Journal
from .outcome import work_through
from .plan import Settings
from .processes import die_with_parent


def main() -> int:
    die_with_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("function")
    parser.add_argument("--part", required=True)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--quarantined", action="append", default=[])
    parser.add_argument("--emulated", action="store_true")
    given = parser.parse_args()
    deadline = time.monotonic() + given.seconds
    settings = Settings(given.part, given.library, given.out, given.emulated, given.only)
    listed = getattr(importlib.import_module(given.module), given.function)(settings)
    cases = [case for case in listed if re.search(given.only, case.name)]
    work_through(cases, Journal(given.out / FILE, given.part), deadline, given.skip, given.quarantined)
    return 0


if __name__ == "__main__":
    sys.exit(main())
