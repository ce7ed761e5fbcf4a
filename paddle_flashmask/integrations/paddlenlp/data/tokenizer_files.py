"""The files that make a tokenizer, to tell whether they are those that were loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..digests import sha256_of
from ..errors import RunError

_WEIGHTS = ("*.safetensors", "*.pdparams", "*.pdopt", "pytorch_model*.bin", "*.pth", "*.gguf", "*.onnx", "*.h5")
"""Files of a model's folder that no tokenizer reads. All others count as the tokenizer's."""
TEMPLATE = "chat template"


class Source(Protocol):
    """Where a tokenizer comes from: `loading.TokenizerSource`."""

    name: str
    chat_template: str | None

    def load(self) -> Any: ...

    def template_files(self) -> list[Path]: ...


def tokenizer_files(source: Source) -> list[list[str]] | None:
    """Names and SHA-256 of the files of the tokenizer and of its chat template; None where it is not in a folder."""
    folder = Path(source.name)
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.iterdir() if path.is_file() and not any(map(path.match, _WEIGHTS)))
    templates = [[TEMPLATE, sha256_of(path)] for path in source.template_files()]
    return [[path.name, sha256_of(path)] for path in files] + templates


@dataclass(frozen=True)
class LoadedSource:
    """The source of a tokenizer that this process has loaded, for another process that loads it as well."""

    source: Source
    files: list[list[str]] | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tokenizer_files(self.source))

    def load(self) -> Any:
        """The tokenizer. Raises RunError where its files are no longer those of the process that made this object."""
        tokenizer = self.source.load()
        now = tokenizer_files(self.source)
        if now != self.files:
            before = {tuple(entry) for entry in self.files or []}
            changed = {name for name, _ in before ^ {tuple(entry) for entry in now or []}}
            raise RunError(
                f"the tokenizer {self.source.name!r} has changed since the start: {', '.join(sorted(changed))}; "
                "rows would be turned into tokens by two tokenizers. Start the run again"
            )
        return tokenizer
