"""Check that the commands of a shell block exist: programs, subcommands, options, keys, targets, modules, files."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator

import click
from click.testing import CliRunner
from packaging.requirements import Requirement
from support.repository import REPOSITORY

from paddle_flashmask.cli import main
from paddle_flashmask.integrations.paddlenlp.config.keys import TYPES

Words = list[str]

# Modules of libraries that the tests' environment does not have.
FOREIGN_MODULES = ("paddleformers", "erniekit")
# Options of pip, and whether they take a value.
PIP_OPTIONS = {"--no-build-isolation": False, "--no-deps": False, "-e": False, "-v": False, "-q": False, "-U": False}


def check_shell(text: str) -> None:
    """Raise AssertionError for the first command that does not exist."""
    built: Words = []  # programs that an earlier line compiles
    for line in text.replace("\\\n", " ").splitlines():
        for words in commands(line):
            if words[0] not in built:
                check_command(words)
            built += [f"./{name}" for option, name in zip(words, words[1:], strict=False) if option == "-o"]


def commands(line: str) -> Iterator[Words]:
    """Words of each command of a line, without comments, redirections and assignments, innermost $(...) first."""
    while inner := re.search(r"\$\(([^()]*)\)", line):
        yield from commands(inner[1])
        line = line.replace(inner[0], "SUBSTITUTED")
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: Words = []
    skipped = False
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            if words:
                yield words
            words = []
        elif set(word) <= set("<>"):
            skipped = True  # the file of a redirection
        elif skipped or (not words and re.fullmatch(r"[A-Z_]+=.*", word)):
            skipped = False
        else:
            words.append(word)


def check_command(words: Words) -> None:
    program, arguments = words[0], words[1:]
    if program in PROGRAMS:
        PROGRAMS[program](arguments)
    else:
        assert "/" in program and (REPOSITORY / program).is_file(), f"unknown program {program!r}"


def check_paddle_flashmask(arguments: Words) -> None:
    """The subcommand and its options exist, and the keys of a configuration. `mask` draws nothing, but runs."""
    if arguments in (["--help"], ["--version"]):
        return
    name, *rest = arguments
    command = main.get_command(click.Context(main), name)
    assert command is not None, f"unknown subcommand {name!r}"
    if name == "mask" and rest != ["--help"]:
        with CliRunner().isolated_filesystem():
            result = CliRunner().invoke(command, rest)
        assert result.exit_code == 0, result.output
        return
    values, _, _ = command.make_parser(click.Context(command, **command.context_settings)).parse_args(args=list(rest))
    config = values.get("config")
    if config is not None and "/" in config:
        assert (REPOSITORY / config).is_file(), config
    overrides = values.get("overrides")
    if isinstance(overrides, tuple):  # else click's mark for no value
        assert len(overrides) % 2 == 0, overrides
        for key in overrides[::2]:
            assert key.startswith("--") and key[2:] in TYPES, f"unknown key {key!r}"


def check_make(arguments: Words) -> None:
    text = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", text, flags=re.M))
    variables = set(re.findall(r"^([A-Z_]+) \?=", text, flags=re.M)) | set(re.findall(r"\$\(([A-Z_]+)\)", text))
    for word in arguments:
        name, equals, _ = word.partition("=")
        assert name in (variables if equals else targets), f"make knows no {name!r}"


def check_python(arguments: Words) -> None:
    """The module, script or code exists, and what it launches or tests."""
    if arguments[0] == "-c":
        compile(arguments[1], "-c", "exec")
    elif arguments[0] == "-m":
        check_module(arguments[1], arguments[2:])
    else:
        assert (REPOSITORY / arguments[0]).is_file(), arguments[0]


def check_module(module: str, arguments: Words) -> None:
    if module == "pytest":
        check_pytest(arguments)
    elif module == "pip":
        check_pip(arguments)
    elif module.split(".")[0] not in FOREIGN_MODULES:
        assert importlib.util.find_spec(module), module
    if module == "paddle.distributed.launch":  # "$(command -v paddle-flashmask)" train ...
        check_paddle_flashmask(arguments[arguments.index("SUBSTITUTED") + 1 :])


def check_pytest(arguments: Words) -> None:
    for word in arguments:
        assert word.startswith("-") or word.isdigit() or (REPOSITORY / word.split("::")[0]).exists(), word


def check_pip(arguments: Words) -> None:
    """`pip install` of requirements, of this package with extras that it has, or of a wheel in dist."""
    subcommand, *words = arguments
    assert subcommand in ("install", "download"), subcommand
    project = (REPOSITORY / "pyproject.toml").read_text()
    section = re.search(r"^\[project.optional-dependencies\]\n(.*?)^\[", project, flags=re.M | re.S)[1]
    extras = re.findall(r"^(\w+) = ", section, flags=re.M)
    words = iter(words)
    for word in words:
        if word in ("-r", "-c"):
            assert (REPOSITORY / next(words)).is_file()
        elif word.startswith("-"):
            assert word in PIP_OPTIONS, f"unknown option of pip {word!r}"
        elif match := re.fullmatch(r"(?:\.|dist/\S+\.whl)(?:\[([\w,]+)\])?", word):
            assert not match[1] or set(match[1].split(",")) <= set(extras), word
        else:
            Requirement(word)


def check_compiler(arguments: Words) -> None:
    """Options only: the program is compiled by the test of its page."""
    assert arguments


def check_folder(arguments: Words) -> None:
    assert len(arguments) == 1


def check_debian(arguments: Words) -> None:
    assert arguments[0] == "install" and len(arguments) > 1


def check_lookup(arguments: Words) -> None:
    assert arguments == ["-v", "paddle-flashmask"]


def check_visualdl(arguments: Words) -> None:
    assert arguments[0] == "--logdir"


PROGRAMS: dict[str, Callable[[Words], None]] = {
    "apt-get": check_debian,
    "cc": check_compiler,
    "cd": check_folder,
    "command": check_lookup,
    "g++": check_compiler,
    "gcc": check_compiler,
    "make": check_make,
    "paddle-flashmask": check_paddle_flashmask,
    "pip": check_pip,
    "pytest": check_pytest,
    "python": check_python,
    "python3": check_python,
    "visualdl": check_visualdl,
}
