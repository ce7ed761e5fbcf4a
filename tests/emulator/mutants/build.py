"""Build mutants of the kernels for the emulator. To save time, only the changed file is compiled, with one row of its
tile table; the rest are the objects of the emulated library."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tools import build_kernels

REPOSITORY = Path(__file__).resolve().parents[3]
CSRC = REPOSITORY / "csrc"
# DispatchRow tries the rows of a table one after the other; mutants have a single row.
DISPATCH_ROW = Path("cuda") / "common" / "dispatch_row.h"
FIRST_ROW = "int kRow = 0"
NEXT_ROW = "return DispatchRow<kRows, kRow + 1>(row, launch);"


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has this text {text.count(old)} times, expected once:\n{old}"
    path.write_text(text.replace(old, new))


class Builder:
    """Builder of the emulated library and of its mutants, in folders below `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.compiler = build_kernels.find_compiler()
        units = build_kernels.cpu_units(self.compiler) + build_kernels.emulated_units(self.compiler)
        self.units = {unit.source: unit for unit in units}
        self.objects = dict(zip(self.units, build_kernels.ObjectCache().compile_all(units), strict=True))
        self.library = self._link(list(self.objects.values()), folder)

    def mutant(self, name: str, file: str, old: str, new: str, rebuilt: str, row: int = 0) -> Path:
        """Build a library with `old` replaced by `new` in csrc/cuda/`file`. Only csrc/cuda/`rebuilt` is compiled again,
        for one row of its table."""
        csrc = self.folder / name / "csrc"
        shutil.copytree(CSRC, csrc)
        replace_once(csrc / DISPATCH_ROW, FIRST_ROW, f"int kRow = {row}")
        replace_once(csrc / DISPATCH_ROW, NEXT_ROW, 'return {1, "one row is built"};')
        replace_once(csrc / "cuda" / file, old, new)
        source = CSRC / "cuda" / rebuilt
        command = [part.replace(str(CSRC), str(csrc)) for part in self.units[source].command]
        changed = csrc.parent / "changed.o"
        subprocess.run([*command, "-O1", "-w", "-c", csrc / "cuda" / rebuilt, "-o", changed], check=True)
        others = [path for unchanged, path in self.objects.items() if unchanged != source]
        # The changed file comes first: the linker keeps the first definition of an inline function.
        return self._link([changed, *others], csrc.parent)

    def _link(self, objects: list[Path], folder: Path) -> Path:
        library = folder / "kernels.so"
        build_kernels.link(build_kernels.kernel_link_command(self.compiler, objects, None), library)
        return library
