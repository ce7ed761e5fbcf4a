"""Structure of the source tree: layers, circles, Python's path, file lengths, inline assembly, Paddle's headers.

The tests in the second half plant a fault in a small tree for each rule, and expect its finding.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from source_rules import (
    Edge,
    Layer,
    assembly,
    circles,
    crossings,
    foreign_includes,
    imports,
    includes,
    long_files,
    path_edits,
    source_files,
    upward_rows,
)
from support.repository import REPOSITORY

_KERNEL_BASE = ("core", "C ABI", "hardware", "common kernels")
_DATA = ("reference", "masks", "packing")
_PACKAGE = (*_DATA, "operator", "distributed", "import hook", "model library", "integrations", "drop-in")

# Listed from the bottom up, first C++ and then Python.
LAYERS = (
    Layer("core", ("csrc/core/",)),
    Layer("C ABI", ("csrc/flashmask.h",)),
    Layer("CPU kernels", ("csrc/cpu/",), sees=("core", "C ABI")),
    Layer("emulator", ("tests/emulator/",)),  # replaces the hardware; its own includes are not checked
    Layer("hardware", ("csrc/cuda/ptx/",), sees=("emulator",)),
    Layer("common kernels", ("csrc/cuda/common/",), sees=("core", "C ABI", "hardware")),
    Layer("shared backward", ("csrc/cuda/backward/",), sees=_KERNEL_BASE),
    Layer("architecture", ("csrc/cuda/sm[0-9]*/",), sees=(*_KERNEL_BASE, "shared backward")),
    Layer("dispatch", ("csrc/cuda/*",), sees=(*_KERNEL_BASE, "shared backward", "architecture")),
    Layer("entry points", ("csrc/capi.cc", "csrc/no_cuda.cc"), sees=("core", "C ABI", "CPU kernels", "dispatch")),
    Layer("Paddle operator", ("csrc/paddle_op.cc", "csrc/workspace_buffer.h"), sees=("core", "C ABI")),
    Layer("mask module", ("csrc/python_module.cc",), sees=("core",)),
    Layer("reference", ("paddle_flashmask/reference.py",)),
    Layer("masks", ("paddle_flashmask/masks/",)),
    Layer("packing", ("paddle_flashmask/packing/",), sees=("masks",)),
    Layer(
        "operator",
        tuple(f"paddle_flashmask/{name}.py" for name in ("_library", "_arguments", "_empty_axes", "functional")),
    ),
    Layer("distributed", ("paddle_flashmask/distributed/",), sees=("masks", "operator")),
    Layer("import hook", ("paddle_flashmask/integrations/_import_hook.py",)),
    Layer(
        "model library",
        ("paddle_flashmask/integrations/paddle*/",),
        sees=(*_DATA, "operator", "distributed", "import hook"),
    ),
    Layer("integrations", ("paddle_flashmask/integrations/*",), sees=("model library", "import hook")),
    Layer("drop-in", ("paddle_flashmask/_dropin.py", "paddle_flashmask/_info.py"), sees=("operator", "integrations")),
    Layer("command line", ("paddle_flashmask/cli/",), sees=_PACKAGE),
    Layer("build", ("setup.py", "tools/*")),
    Layer("test support", ("tests/support/",), sees=("build",)),
    Layer("GPU check", ("tools/gpu_check/",), sees=("build", "test support")),
    Layer("benchmarks", ("benchmarks/",), sees=(*_PACKAGE, "build", "test support", "GPU check")),
)
FACADES = ("paddle_flashmask/__init__.py",)
GENERATED = ("paddle_flashmask/_build_info.py",)
LAYERED = ("csrc", "paddle_flashmask", "setup.py", "tools", "tests/support", "benchmarks")
TREE = ("csrc", "paddle_flashmask", "setup.py", "tools", "tests", "benchmarks", "examples", "docs")
INCLUDE_ROOTS, IMPORT_ROOTS = ("csrc", "tests"), (".", "tests")
LINES = 400


@pytest.fixture(scope="module")
def layered() -> list[str]:
    return [file for file in source_files(REPOSITORY, LAYERED) if file not in (*FACADES, *GENERATED)]


@pytest.fixture(scope="module")
def tree() -> list[str]:
    return [file for file in source_files(REPOSITORY, TREE) if file not in GENERATED]


def test_layers_see_only_layers_below() -> None:
    assert upward_rows(LAYERS) == []


def test_includes_go_downwards(layered: list[str]) -> None:
    files = [file for file in layered if file.startswith("csrc/")]
    edges, unresolved = includes(REPOSITORY, files, INCLUDE_ROOTS)
    assert len(edges) > len(files) / 2
    assert [line for line in unresolved if "includes paddle/" not in line] == []
    assert crossings(files, edges, LAYERS) == []


def test_imports_go_downwards(layered: list[str]) -> None:
    files = [file for file in layered if file.endswith(".py")]
    edges = imports(REPOSITORY, files, IMPORT_ROOTS, FACADES)
    assert len(edges) > len(files)
    assert crossings(files, edges, LAYERS) == []


def test_there_are_no_circles(tree: list[str]) -> None:
    edges = includes(REPOSITORY, tree, INCLUDE_ROOTS)[0] + imports(REPOSITORY, tree, IMPORT_ROOTS, FACADES)
    assert circles(edges) == []


def test_no_module_uses_sys_path(tree: list[str]) -> None:
    assert path_edits(REPOSITORY, tree) == []


def test_files_are_short(tree: list[str]) -> None:
    assert long_files(REPOSITORY, tree, LINES) == []


def test_assembly_is_in_one_folder(tree: list[str]) -> None:
    files = [file for file in tree if file.startswith("csrc/")]
    assert assembly(REPOSITORY, files, "csrc/cuda/ptx/") == []


def test_paddle_headers_are_in_one_file(tree: list[str]) -> None:
    assert foreign_includes(REPOSITORY, tree, "paddle", "csrc/paddle_op.cc") == []


# --- Planted faults


def plant(root: Path, files: dict[str, str]) -> list[str]:
    """Write a tree and return its files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return sorted(files)


def include_findings(root: Path, files: dict[str, str]) -> list[str]:
    names = plant(root, files)
    edges, unresolved = includes(root, names, INCLUDE_ROOTS)
    return [*unresolved, *crossings(names, edges, LAYERS)]


def import_findings(root: Path, files: dict[str, str]) -> list[str]:
    names = [name for name in plant(root, files) if name not in FACADES]
    return crossings(names, imports(root, names, IMPORT_ROOTS, FACADES), LAYERS)


def test_a_table_that_looks_upwards_is_found() -> None:
    layers = (Layer("kernels", ("csrc/",), sees=("operator",)), Layer("operator", ("package/",), sees=("kernels",)))
    assert upward_rows(layers) == ["kernels sees operator, which is not below it"]


@pytest.mark.parametrize(
    ("file", "included", "finding"),
    [
        ("csrc/cuda/sm90/forward.h", "../sm80/config.h", "architecture may not see architecture"),
        ("csrc/cuda/sm80/config.cu", "cuda/sm90/config.h", "architecture may not see architecture"),
        ("csrc/cuda/common/columns.h", "../sm80/config.h", "common kernels may not see architecture"),
        ("csrc/cuda/sm80/config.h", "../dispatch.h", "architecture may not see dispatch"),
        ("csrc/cpu/forward.cc", "../cuda/dispatch.h", "CPU kernels may not see dispatch"),
        ("csrc/core/tiles.h", "flashmask.h", "core may not see C ABI"),
        ("csrc/cuda/sm80/config.h", "../backward/gone.h", "which is not in the tree"),
    ],
)
def test_a_forbidden_include_is_found(tmp_path: Path, file: str, included: str, finding: str) -> None:
    headers = ("csrc/flashmask.h", "csrc/cuda/dispatch.h", "csrc/cuda/sm80/config.h", "csrc/cuda/sm90/config.h")
    files = dict.fromkeys(headers, "") | {"csrc/cuda/backward/rows.h": '#include "../common/arena.h"\n'}
    files["csrc/cuda/common/arena.h"] = '#include "../../flashmask.h"\n#include <cstddef>\n'
    assert include_findings(tmp_path, files) == []
    (found,) = include_findings(tmp_path, files | {file: f'#pragma once\n#  include "{included}"\n'})
    assert found.startswith(f"{file}:2 ") and found.endswith(finding)


@pytest.mark.parametrize(
    ("file", "statement", "finding"),
    [
        ("paddle_flashmask/masks/full.py", "from ..packing import plan", "masks may not see packing"),
        ("paddle_flashmask/masks/full.py", "import paddle_flashmask.packing.plan", "masks may not see packing"),
        ("paddle_flashmask/masks/full.py", "def f():\n    from .. import functional", "masks may not see operator"),
        ("paddle_flashmask/masks/full.py", "from paddle_flashmask import attend", "masks may not see operator"),
        (
            "paddle_flashmask/integrations/paddlenlp/patch.py",
            "from ..paddleformers import patch",
            "model library may not see model library",
        ),
        ("tests/support/call.py", "from tools.gpu_check import plan", "test support may not see GPU check"),
        ("tools/gpu_check/plan.py", "if X:\n    from benchmarks.gpu import bench", "GPU check may not see benchmarks"),
        ("tools/build_kernels.py", "from support.call import Call", "build may not see test support"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, statement: str, finding: str) -> None:
    libraries = [f"integrations/{library}/patch" for library in ("paddlenlp", "paddleformers")]
    modules = ("masks/full", "packing/plan", "functional", *libraries)
    files = {f"paddle_flashmask/{name}.py": "import numpy\n" for name in modules}
    files |= {"paddle_flashmask/__init__.py": "if TYPE_CHECKING:\n    from paddle_flashmask.functional import attend\n"}
    files |= {"tests/support/call.py": "", "tools/build_kernels.py": "", "benchmarks/gpu/bench.py": ""}
    files |= {"tools/gpu_check/plan.py": "from support import call\nfrom tools.build_kernels import link\n"}
    assert import_findings(tmp_path, files) == []
    (found,) = import_findings(tmp_path, files | {file: f"{statement}\n"})
    assert found.startswith(f"{file}:") and found.endswith(finding)


def test_a_file_without_a_layer_is_found() -> None:
    files = ["csrc/cuda/sm100/forward.h", "csrc/cuda/helpers/forward.h", "paddle_flashmask/extra.py"]
    assert crossings(files, [], LAYERS) == [f"{file} belongs to no layer" for file in files[1:]]


def test_circles_are_found(tmp_path: Path) -> None:
    files = {
        "csrc/a.h": '#include "b.h"\n',
        "csrc/b.h": '#include "c.h"\n',
        "csrc/c.h": '#include "a.h"\n',
        "tools/one.py": "def f() -> None:\n    from tools import two\n",
        "tools/two.py": "if TYPE_CHECKING:\n    from .one import f\n",
        "tools/three.py": "from tools.one import f\n",
    }
    names = plant(tmp_path, files)
    edges = includes(tmp_path, names, INCLUDE_ROOTS)[0] + imports(tmp_path, names, IMPORT_ROOTS)
    assert circles(edges) == [("csrc/a.h", "csrc/b.h", "csrc/c.h"), ("tools/one.py", "tools/two.py")]
    assert circles([Edge("a", "b", 1), Edge("a", "c", 1), Edge("b", "c", 1)]) == []


@pytest.mark.parametrize(
    "statement",
    ["sys.path.insert(0, folder)", "sys.path[:0] = [folder]", "sys.path += [folder]", "from sys import path"],
)
def test_an_edit_of_the_python_path_is_found(tmp_path: Path, statement: str) -> None:
    names = plant(tmp_path, {"tools/a.py": f"import sys\n\n{statement}\n", "tools/b.py": "import sys\nsys.exit()\n"})
    assert path_edits(tmp_path, names) == ["tools/a.py:3 uses sys.path"]


def test_a_long_file_is_found(tmp_path: Path) -> None:
    names = plant(tmp_path, {"a.py": "\n" * LINES, "b.cu": "\n" * (LINES + 1), "table.h": "\n" * 900})
    assert source_files(tmp_path, (".",)) == names
    assert long_files(tmp_path, names, LINES, exempt=("table.h",)) == ["b.cu has 401 lines, expected at most 400"]


@pytest.mark.parametrize("text", ['if (x) asm volatile("nop");', 'asm("nop;");', '__asm__("nop;");'])
def test_assembly_elsewhere_is_found(tmp_path: Path, text: str) -> None:
    others = '// asm volatile is in ptx/\n/* asm(...) */\nint assembled(int n) __asm__("name");\n'
    names = plant(tmp_path, {"csrc/cuda/sm90/a.h": text, "csrc/cuda/ptx/b.h": text, "csrc/cuda/sm90/c.h": others})
    assert assembly(tmp_path, names, "csrc/cuda/ptx/") == [
        "csrc/cuda/sm90/a.h has inline assembly, expected in csrc/cuda/ptx/ only"
    ]


def test_paddle_elsewhere_is_found(tmp_path: Path) -> None:
    include = "#include <paddle/extension.h>\n"
    names = plant(tmp_path, {"csrc/capi.cc": include, "csrc/paddle_op.cc": include, "csrc/core/a.h": ""})
    assert foreign_includes(tmp_path, names, "paddle", "csrc/paddle_op.cc") == [
        "csrc/capi.cc:1 includes paddle/extension.h, expected in csrc/paddle_op.cc only"
    ]
