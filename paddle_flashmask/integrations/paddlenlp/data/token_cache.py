"""A folder with the tokens of data files, for later runs on the same files with the same tokenizer and keys."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paddle_flashmask

from ..digests import sha256_of
from ..runs.atomic import move_folder, sync_tree
from .line_tokens import LineTokens, TokenRow
from .token_store import DamagedError, StoredTokens, TokenWriter, UnstorableError
from .tokenizer_files import Source, tokenizer_files

UNFINISHED = ".unfinished-"
KEPT_UNFINISHED = 24 * 3600
"""Seconds after which a folder that nobody writes to is taken for that of a killed run."""
_PACKAGES = ("paddlenlp", "sentencepiece", "tokenizers", "jinja2", "numpy")


@dataclasses.dataclass
class TokenCache:
    """Reads rows from the folder, or writes them there while they are read for the first time.

    Every set of rows has a folder of its own, named after the task, the split and the digest of all that the tokens
    depend on. It appears complete or not at all, so runs may share the cache at any time. write: gets the notes.
    """

    folder: Path
    name: str
    source: Source
    write: Callable[[str], None]
    _written_notes: set[str] = dataclasses.field(init=False, repr=False, default_factory=set)
    _loaded: list[list[str]] | None = dataclasses.field(init=False, repr=False)
    """The files of the tokenizer when it was loaded: the weights of a model may take minutes to load after it."""

    def __post_init__(self) -> None:
        self._loaded = tokenizer_files(self.source)

    def _note(self, text: str) -> None:
        """Write a note once: a stream is read again for every epoch."""
        if text not in self._written_notes:
            self._written_notes.add(text)
            self.write(f"note: {text}")

    def key_of(self, rows: LineTokens) -> dict[str, Any]:
        """All that the tokens depend on."""
        own = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows) if field.init}
        lines = own.pop("rows")
        own.pop("tokenizer")
        return {
            "rows": [_name_of(rows), sorted((name, repr(value)) for name, value in own.items())],
            "lines": [_name_of(lines), _settings_of(lines)],
            "files": [[path.name, sha256_of(path)] for path in _all_files(rows.files)],
            "tokenizer": self._tokenizer(rows.tokenizer),
            "versions": _versions(),
        }

    def path_of(self, key: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{self.name}-{digest[:32]}"

    def read(self, rows: LineTokens, fresh: Callable[[], Iterator[TokenRow]]) -> Iterator[TokenRow]:
        """The rows from the cache, or those of `fresh`, which are stored if they are read to the end."""
        if not Path(self.source.name).is_dir():
            self._note(f"tokenized_cache is not used: the tokenizer {self.source.name!r} is not a folder")
            yield from fresh()
            return
        if tokenizer_files(self.source) != self._loaded:
            self._note(f"tokenized_cache is not used: the tokenizer {self.source.name!r} has changed since the start")
            yield from fresh()
            return
        key = self.key_of(rows)
        stored = self._find(key)
        if stored is None:
            yield from self._written(rows, key, fresh())
            return
        self._note(f"{self.name} rows are read as tokens from {self.path_of(key)}")
        for row, rows.cut_rows in stored.rows():
            yield row
        rows.cut_rows = stored.cut_rows

    def _find(self, key: dict[str, Any]) -> StoredTokens | None:
        path = self.path_of(key)
        if not path.is_dir():
            return None
        try:
            stored = StoredTokens(path)
        except DamagedError as error:
            self._note(f"{path} is damaged ({error}); the rows are turned into tokens again")
            return None
        return stored if stored.key == json.loads(json.dumps(key)) else None

    def _written(self, rows: LineTokens, key: dict[str, Any], fresh: Iterator[TokenRow]) -> Iterator[TokenRow]:
        """Yield the rows and store them. A full disk ends the storing, not the run."""
        with contextlib.ExitStack() as held:
            writer: TokenWriter | None = None
            with self._noted():
                self.folder.mkdir(parents=True, exist_ok=True)
                _remove_abandoned(self.folder)
                folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.folder))
                held.callback(shutil.rmtree, folder, ignore_errors=True)
                writer = TokenWriter(folder)
                held.callback(writer.close)
            for row in fresh:
                if writer is not None and not self._added(writer, row, rows.cut_rows):
                    writer = None
                yield row
            if writer is None or self.key_of(rows) != key:  # a file was changed meanwhile
                return
            with self._noted():
                writer.finish(key, rows.cut_rows)
                sync_tree(folder)
                folder.chmod(0o755)
                move_folder(folder, self.path_of(key))

    def _added(self, writer: TokenWriter, row: TokenRow, cut_rows: int) -> bool:
        with self._noted():
            writer.add(row, cut_rows)
            return True
        return False

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Write a note in place of an error of the disk, or for a row that cannot be stored."""
        try:
            yield
        except (OSError, UnstorableError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._note(f"tokenized_cache = {str(self.folder)!r} is not written: {reason}")

    def _tokenizer(self, tokenizer: Any) -> dict[str, Any]:
        """The class and the files of the tokenizer, and which chat template is used."""
        template = self.source.chat_template
        which = "own" if template == self.source.name else template and template.lower()
        return {
            "class": _name_of(tokenizer),
            "files": tokenizer_files(self.source),
            "template": which if which in (None, "own", "none") else "other",
        }


def _name_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _settings_of(lines: Any) -> dict[str, str]:
    """What decides the rows beside the contents of the files."""
    settings = {name: repr(value) for name, value in vars(lines).items() if name not in ("mixture", "form")}
    form = getattr(lines, "form", None)
    return {**settings, "mixture": repr(lines.mixture.settings), "form": repr(form and form.tokens.__module__)}


def _all_files(paths: Any) -> Iterator[Path]:
    """The files, and those of folders."""
    for path in paths:
        yield from sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]


def _versions() -> dict[str, str]:
    """Versions of all that makes tokens. The source counts too: it changes between releases."""
    source = hashlib.sha256()
    for path in sorted(Path(paddle_flashmask.__file__).parent.rglob("*.py")):
        source.update(path.read_bytes())
    found = {"paddle_flashmask": paddle_flashmask.__version__, "source": source.hexdigest()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {**found, "python": platform.python_version()}


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed runs left."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            newest = max(found.stat().st_mtime for found in [path, *path.iterdir()])
            if time.time() - newest > KEPT_UNFINISHED:
                shutil.rmtree(path)
