"""Builds the kernels for the emulator as cheaply as the mutants allow: one row of each table of tiles, and of a mutant
only the file that changes."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
FLAGS = ["-std=c++17", "-O1", "-g0", "-fPIC", "-w", "-DPFM_EMULATOR"]

# The launchers try one row of the table after the other; here the first one is all.
LAUNCHERS = {
    "forward_launch.h": "LaunchForwardRow",
    "backward_launch.h": "LaunchBackwardRow",
    "query_gradient_launch.h": "LaunchQueryGradientRow",
}


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has this text {text.count(old)} times, expected once:\n{old}"
    path.write_text(text.replace(old, new))


class Builder:
    """One tree of sources with one instantiation of each kernel, compiled; mutants are made from copies of it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.csrc = folder / "csrc"
        shutil.copytree(REPOSITORY / "csrc", self.csrc)
        for name, function in LAUNCHERS.items():
            replace_once(
                self.csrc / "cuda" / "sm80" / name,
                f"return {function}<T, kRow + 1>(row, arguments);",
                'return {1, "one row is built"};',
            )
        self.sources = [
            *sorted(path.relative_to(self.csrc) for path in (self.csrc / "cuda").rglob("*.cu")),
            *sorted((REPOSITORY / "tests" / "emulator").glob("*.cc")),
            REPOSITORY / "tests" / "cuda" / "library.cc",
        ]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = pool.map(lambda source: self._compile(source, self.csrc, folder), self.sources)
            self.objects = dict(zip(self.sources, objects, strict=True))
        self.library = self._link(list(self.objects.values()), folder)

    def mutant(self, name: str, file: str, old: str, new: str, rebuilt: str) -> Path:
        """A library in which `old` in csrc/cuda/`file` is `new`, for the kernels of csrc/cuda/`rebuilt`."""
        folder = self.folder / name
        shutil.copytree(self.csrc, folder / "csrc")
        replace_once(folder / "csrc" / "cuda" / file, old, new)
        source = Path("cuda") / rebuilt
        changed = self._compile(source, folder / "csrc", folder)
        others = [path for unchanged, path in self.objects.items() if unchanged != source]
        # The changed file first: of an inline function that several files have the linker takes the first.
        return self._link([changed, *others], folder)

    @staticmethod
    def _compile(source: Path, csrc: Path, folder: Path) -> Path:
        result = folder / f"{source.stem}.o"
        includes = [f"-I{csrc}", f"-I{REPOSITORY / 'tests'}"]
        # A path in the repository is absolute and stays as it is.
        command = [os.environ.get("CXX", "g++"), "-x", "c++", *FLAGS, *includes, "-c", csrc / source, "-o", result]
        subprocess.run(command, check=True)
        return result

    @staticmethod
    def _link(objects: list[Path], folder: Path) -> Path:
        library = folder / "kernels.so"
        subprocess.run([os.environ.get("CXX", "g++"), "-shared", *objects, "-o", library], check=True)
        return library
