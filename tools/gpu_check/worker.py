"""Process of one part, started by runner.py: python3 -m tools.gpu_check.worker PART ..."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import time
from pathlib import Path

from .outcome import DeviceLost, Journal, work_through
from .plan import PARTS, Settings

DEVICE_LOST_STATUS = 75


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--emulated", action="store_true")
    given = parser.parse_args()
    deadline = time.monotonic() + given.seconds
    settings = Settings(given.part, given.library, given.out, given.emulated, given.only)
    part = PARTS[given.part]
    cases_of = getattr(importlib.import_module(part.module), part.function)
    cases = [case for case in cases_of(settings) if re.search(given.only, case.name)]
    try:
        work_through(cases, Journal(given.journal), deadline, given.skip)
    except DeviceLost:
        return DEVICE_LOST_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())
