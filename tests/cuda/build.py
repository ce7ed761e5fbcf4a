"""Builds the CUDA kernels for the emulator: one shared library, compiled by the host C++ compiler."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import subprocess
from pathlib import Path

from support.specification import REPOSITORY

OUTPUT = REPOSITORY / "build" / "emulated"
FLAGS = ["-std=c++17", "-O2", "-g0", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-DPFM_EMULATOR"]


def emulated_library() -> Path:
    """The library of the sources as they are; compiled again only if one of them changed."""
    compiler = os.environ.get("CXX", "g++")
    sources = [
        *sorted((REPOSITORY / "csrc" / "cuda").rglob("*.cu")),
        *sorted((REPOSITORY / "tests" / "emulator").glob("*.cc")),
        REPOSITORY / "tests" / "cuda" / "library.cc",
    ]
    headers = [*(REPOSITORY / "csrc").rglob("*.h"), *(REPOSITORY / "tests" / "emulator").rglob("*.h")]
    digest = hashlib.sha256(repr([compiler, FLAGS]).encode())
    for path in sorted([*sources, *headers]):
        digest.update(str(path.relative_to(REPOSITORY)).encode() + b"\0" + path.read_bytes())
    folder = OUTPUT / digest.hexdigest()[:16]
    library = folder / "_emulated.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> Path:
        result = folder / f"{source.stem}.o"
        includes = [f"-I{REPOSITORY / 'csrc'}", f"-I{REPOSITORY / 'tests'}"]
        subprocess.run([compiler, "-x", "c++", *FLAGS, *includes, "-c", source, "-o", result], check=True)
        return result

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    unfinished = folder / f"_emulated.{os.getpid()}.so"
    subprocess.run([compiler, "-shared", *objects, "-o", unfinished], check=True)
    unfinished.rename(library)
    return library
