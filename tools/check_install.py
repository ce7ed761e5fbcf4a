"""Installation as README.md prints it: the lines of "Install" in new environments, then the example, info and training.

    python -m tools.check_install wheel source paddleformers          for every Python 3.10-3.12 that is found
    python -m tools.check_install wheel --python python3.11
    python -m tools.check_install wheel --borrow .venv                packages of another environment: no downloads

wheel: the files in dist, without a compiler within reach. source: in a new clone of the last commit, and the command
for a rebuild that the error about another Paddle names. Both then add PaddleNLP and train a few steps of the example.
paddleformers: its lines, in an environment of its own.

Two environments are made at a time. A clone starts with the objects that the checkout has compiled, which it uses where
their sources are those of the commit: they depend on no Python. The last line printed names what passed, and the
versions of Python that were not found.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tools.build_kernels import OBJECTS, ROOT
from tools.wheels import PYTHONS, find_pythons, python_version

README = ROOT / "README.md"
STEPS = 3
# Paddle's first import and pip may take minutes on a busy machine.
TIMEOUT_S = 1800
JOBS = 2
CHECKS = ("wheel", "source", "paddleformers")
OLDEST_PYTHON = {"paddleformers": "3.11"}


class CheckError(SystemExit):
    """A step that failed, with its command and output."""


def install_blocks(heading: str) -> list[list[str]]:
    """Commands of each block below `### heading` of README.md."""
    section = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##)", README.read_text(), flags=re.M | re.S)[1]
    return [block.strip().splitlines() for block in re.findall(r"^```bash\n(.*?)^```", section, flags=re.M | re.S)]


def readme_example() -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.M | re.S)
    return block


@dataclass(frozen=True)
class Environment:
    """A new virtual environment and the folder in which the lines of README.md run.

    Without `compilers`, PATH is the environment's own folder, so that no program of the system is within reach.
    `label` starts each line of output.
    """

    label: str
    folder: Path
    source: Path
    compilers: bool

    def print(self, text: str) -> None:
        print("".join(f"[{self.label}] {line}\n" for line in text.splitlines()), end="", flush=True)

    def run(self, command: str, cwd: Path) -> str:
        """Run a command line with bash and return its output."""
        started = time.monotonic()
        unset = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CC", "CXX", "CUDA_HOME", "PYTHONDONTWRITEBYTECODE")
        variables = {name: value for name, value in os.environ.items() if name not in unset}
        path = [str(self.folder / "bin"), *([os.environ["PATH"]] if self.compilers else [])]
        # pip would spend half of its time on compiling modules that are never imported.
        variables |= {"PATH": os.pathsep.join(path), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1"}
        ran = subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=cwd,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        if ran.returncode != 0:
            raise CheckError(f"[{self.label}] failed in {cwd}: {command}\n{ran.stdout[-8000:]}")
        self.print(f"$ {command} ({time.monotonic() - started:.0f} s)")
        return ran.stdout

    def python(self, code: str, cwd: Path) -> str:
        script = self.folder / "script.py"
        script.write_text(code)
        return self.run(f"python {script}", cwd)


def clone_checkout(folder: Path) -> Path:
    """Clone the last commit, with the objects of the CPU kernels, the operator and _core that are compiled already."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    objects = folder / OBJECTS.relative_to(ROOT)
    objects.mkdir(parents=True)
    for path in OBJECTS.glob("csrc-*.cc-*"):
        shutil.copy2(path, objects)
    return folder


def new_environment(label: str, python: str, scratch: Path, source: Path, borrow: Path | None = None) -> Environment:
    """Make an environment in `scratch`; compilers are within reach where `source` is not the checkout."""
    folder = scratch / "environment"
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    environment = Environment(label, folder, source, compilers=source != ROOT)
    if borrow is not None:
        (theirs,) = borrow.resolve().glob("lib/python3.*/site-packages")
        (ours,) = folder.glob("lib/python3.*/site-packages")
        packages = folder / "borrowed"
        packages.mkdir()
        for entry in theirs.iterdir():
            # Without this package, and without pip and setuptools, which the environment has or lacks by itself.
            if not re.match(
                r"(__editable__|paddle_flashmask|pip\b|setuptools\b|_distutils_hack|distutils-)", entry.name
            ):
                (packages / entry.name).symlink_to(entry)
        (ours / "borrowed.pth").write_text(f"{packages}\n")
    return environment


def check_package(environment: Environment) -> None:
    """Run the example of README.md and `paddle-flashmask info`, outside of the source folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment.python(readme_example(), Path(folder))
        info = environment.run("paddle-flashmask info", Path(folder))
    if not re.search(r"^operator +loaded$", info, flags=re.M):
        raise CheckError(f"the operator is not loaded:\n{info}")
    environment.print(info)


def check_rebuild(environment: Environment) -> None:
    """Run the command that is printed where the installed Paddle is not the one of the build."""
    code = "from paddle_flashmask import _library\ntry: _library.find_library('0')\nexcept ImportError as e: print(e)"
    with tempfile.TemporaryDirectory() as folder:
        message = environment.python(code, Path(folder))
    command = re.search(r"rebuild with `(pip install [^`]+)`", message)
    if command is None:
        raise CheckError(f"the error names no command: {message}")
    environment.run(command[1], environment.source)
    check_package(environment)


def check_training(environment: Environment) -> None:
    """Train a few steps of examples/sft/config.json on sums."""
    examples = environment.source / "examples"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        rows = [{"src": f"What is {n} plus {n * 7}?", "tgt": f"{n} plus {n * 7} is {n * 8}."} for n in range(400)]
        (folder / "data" / "train.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        model = f"make_model(Path({str(folder / 'model')!r}), Path({str(folder / 'data' / 'train.json')!r}))"
        code = f"from pathlib import Path; from sft.prepare import make_model; {model}"
        environment.run(f'python -c "{code}"', examples)
        environment.run(
            f"paddle-flashmask train {examples / 'sft' / 'config.json'} --model_name_or_path model "
            f"--dataset_name_or_path data --output_dir output --max_steps {STEPS}",
            folder,
        )
        summary = json.loads((folder / "output" / "training_summary.json").read_text())
    environment.print(f"losses: {summary['losses']}")


def check_wheel(label: str, python: str, scratch: Path, dist: Path, borrow: Path | None) -> None:
    environment = new_environment(label, python, scratch, ROOT, borrow)
    tag = "cp" + python_version(python).replace(".", "")
    first, training = (
        [line.replace("cp311", tag).replace("dist/", f"{dist}/") for line in block]
        for block in install_blocks("From a wheel")
    )
    for line in first:
        environment.run(line, environment.source)
    check_package(environment)
    if borrow is None:
        for line in training:
            environment.run(line, environment.source)
    check_training(environment)


def check_source(label: str, python: str, scratch: Path) -> None:
    environment = new_environment(label, python, scratch, clone_checkout(scratch / "clone"))
    first, paddlenlp, _ = install_blocks("From source")
    for line in first:
        environment.run(line, environment.source)
    check_package(environment)
    check_rebuild(environment)
    for line in paddlenlp:
        environment.run(line, environment.source)
    check_training(environment)


def check_paddleformers(label: str, python: str, scratch: Path) -> None:
    environment = new_environment(label, python, scratch, clone_checkout(scratch / "clone"))
    first, _, paddleformers = install_blocks("From source")
    for line in [*first, *paddleformers]:
        environment.run(line, environment.source)
    check_package(environment)
    environment.run("python -m paddle_flashmask.integrations.paddleformers", scratch)


def run_check(check: str, python: str, dist: Path, borrow: Path | None) -> None:
    label = f"{check} {python_version(python)}"
    with tempfile.TemporaryDirectory() as name:
        if check == "wheel":
            check_wheel(label, python, Path(name), dist, borrow)
        elif check == "source":
            check_source(label, python, Path(name))
        else:
            check_paddleformers(label, python, Path(name))


def planned_checks(checks: list[str], versions: list[str]) -> list[tuple[str, str]]:
    """Pairs of a check and a Python version that the check supports."""
    return [
        (check, version)
        for check in checks
        for version in versions
        if PYTHONS.index(version) >= PYTHONS.index(OLDEST_PYTHON.get(check, PYTHONS[0]))
    ]


def result_line(done: list[tuple[str, str]], missing: list[str]) -> str:
    """Line that names the Python versions of every check, and those that were not found."""
    versions = {check: [version for name, version in done if name == check] for check, _ in done}
    parts = [f"{check} with Python {', '.join(found)}" for check, found in versions.items()]
    parts += [f"NOT FOUND: Python {', '.join(missing)}"] if missing else []
    return "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="+", choices=CHECKS)
    parser.add_argument("--python", action="append", help="an interpreter; default: all that are found")
    parser.add_argument("--dist", type=Path, default="dist", help="folder of the wheels (default: %(default)s)")
    parser.add_argument("--borrow", type=Path, help="environment whose packages are used instead of downloads (wheel)")
    arguments = parser.parse_args()
    pythons = {python_version(name): name for name in arguments.python} if arguments.python else find_pythons()
    if not set(pythons) <= set(PYTHONS):
        raise CheckError(f"--python: expected interpreters of {', '.join(PYTHONS)}, found {arguments.python}")
    planned = planned_checks(arguments.checks, list(pythons))
    if not planned:
        raise CheckError(f"none of these Pythons can run {', '.join(arguments.checks)}: {', '.join(pythons) or 'none'}")
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        running = [
            pool.submit(run_check, check, pythons[version], arguments.dist.resolve(), arguments.borrow)
            for check, version in planned
        ]
    failures = [error for error in (job.exception() for job in running) if error is not None]
    if failures:
        raise CheckError("\n\n".join(str(error) for error in failures))
    missing = [] if arguments.python else [version for version in PYTHONS if version not in pythons]
    print(result_line(planned, missing))


if __name__ == "__main__":
    main()
