"""Compiler caches of the peers (Inductor, Triton, CuTe), kept from run to run as one archive."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

ARCHIVE = "caches.tar.gz"
# Variable that names the folder of a cache -> its folder here. Programs of all parts inherit it.
FOLDERS = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": "flash_attention",
    "FLEX_ATTENTION_CUTE_DSL_CACHE_DIR": "cudnn_flex",
}
MOST_BYTES = 15 << 20  # of an archive; the largest files are left out


def use(folder: Path, archive: Path | None = None) -> None:
    """Let the caches be in this folder, unless the environment names others, and fill it from an archive."""
    for variable, name in FOLDERS.items():
        os.environ.setdefault(variable, str(folder / name))
    for package in ("FLASH", "FLEX"):  # FlashAttention-4 and cuDNN's FlexAttention keep none by default
        os.environ.setdefault(f"{package}_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")
    if archive:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


def pack(folder: Path, archive: Path) -> None:
    """Write the files of the folder to an archive, the smallest first; nothing if there are none."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if not files:
        return
    with archive.open("wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for path in files:
            if raw.tell() + path.stat().st_size > MOST_BYTES:
                break
            tar.add(path, str(path.relative_to(folder)))
