"""Programs of a GPU machine for tests: a CUDA driver over host memory, and stand-ins for tools on PATH."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from support.emulated import EmulatedKernels

SOURCE = Path(__file__).with_name("fake_driver.c")


def build_driver(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", SOURCE, "-o", target], check=True)
    return target


def emulate(driver: Path, library: Path) -> None:
    """Let memory of the driver be known to the emulated kernels of the library, as a GPU of 9.0."""
    kernels = EmulatedKernels(library)
    kernels.configure(seed=1, compute_capability=90)
    emulator = ctypes.CDLL(str(library))
    addresses = [ctypes.cast(getattr(emulator, name), ctypes.c_void_p) for name in _NAMES]
    ctypes.CDLL(str(driver)).fake_emulator(*addresses)


_NAMES = ("pfm_emulator_register", "pfm_emulator_unregister")


def put_on_path(folder: Path, name: str, script: str) -> Path:
    """Shell program `name` in a folder that PATH begins with."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program
