"""Arrays that detect misuse: poisoned contents, guard bytes on either side, gaps between rows that must not change.

The poison 0xFF.. is a NaN in float32, bfloat16 and float16, so a kernel that reads unwritten memory produces NaNs.
Under the address sanitizer, any access to the guards of a sealed array is an error, reads included.
"""

from __future__ import annotations

import ctypes

import numpy as np

POISON = 0xFF
GUARD_BYTES = 512
ALIGNMENT = 256

# Memory layouts of a [B, S, H, D] array; strides_of() has their strides.
LAYOUTS = ("packed", "heads_first", "padded", "sequence_first")


def strides_of(layout: str, shape: tuple[int, int, int, int]) -> tuple[int, int, int]:
    """Strides (batch, seq, head) of a [B, S, H, D] array, in elements."""
    batch, length, heads, dim = shape
    if layout == "packed":
        return length * heads * dim, heads * dim, dim
    if layout == "heads_first":
        return heads * length * dim, dim, length * dim
    if layout == "sequence_first":
        return heads * dim, batch * heads * dim, dim
    if layout == "padded":  # a slice of a fused projection: unaligned, with gaps
        return (length + 1) * (heads + 1) * (dim + 3), (heads + 1) * (dim + 3), dim + 3
    raise ValueError(f"unknown layout {layout!r}, expected one of {LAYOUTS}")


_PROCESS = ctypes.CDLL(None)


class GuardedArray:
    """View `.array` into a larger poisoned buffer. `.check()` raises if a byte outside the view was written."""

    def __init__(
        self, shape: tuple[int, ...], storage: np.dtype, strides: tuple[int, ...] | None = None, shift: int = 0
    ):
        """strides: in elements, contiguous by default; shift: elements past an aligned address."""
        storage = np.dtype(storage)
        if strides is None:
            strides = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
        span = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        size = span * storage.itemsize
        self._raw = np.full(2 * GUARD_BYTES + ALIGNMENT + shift * storage.itemsize + size, POISON, dtype=np.uint8)
        start = GUARD_BYTES + -(self._raw.ctypes.data + GUARD_BYTES) % ALIGNMENT + shift * storage.itemsize
        flat = self._raw[start : start + size].view(storage)
        byte_strides = tuple(s * storage.itemsize for s in strides)
        self.strides = strides
        self.array = np.lib.stride_tricks.as_strided(flat, shape, byte_strides) if span else np.empty(shape, storage)
        self.address = self._raw.ctypes.data + start
        self.size = size
        owned = np.zeros(self._raw.size, dtype=bool)
        if span == np.prod(shape, dtype=np.int64):  # no gaps
            owned[start : start + size] = True
        elif span:
            elements = owned[start : start + size].reshape(span, storage.itemsize)
            index = sum(
                np.arange(n).reshape([-1 if axis == a else 1 for a in range(len(shape))]) * s
                for axis, (n, s) in enumerate(zip(shape, strides, strict=True))
            )
            elements[np.asarray(index).reshape(-1)] = True
        self._outside = np.flatnonzero(~owned)

    def seal(self) -> None:
        """Forbid access to the guards, if this process runs under the address sanitizer."""
        self._mark_guards("__asan_poison_memory_region")

    def unseal(self) -> None:
        self._mark_guards("__asan_unpoison_memory_region")

    def _mark_guards(self, function: str) -> None:
        mark = getattr(_PROCESS, function, None)
        if mark is None:
            return
        begin, end = self._raw.ctypes.data, self._raw.ctypes.data + self._raw.size
        for start, stop in ((begin, self.address), (self.address + self.size, end)):
            mark(ctypes.c_void_p(start), ctypes.c_size_t(stop - start))

    def check(self, name: str) -> None:
        broken = self._outside[self._raw[self._outside] != POISON]
        if broken.size:
            offset = int(broken[0]) - (self.address - self._raw.ctypes.data)
            raise AssertionError(f"{name}: {broken.size} bytes outside the array were overwritten, first at {offset}")


def guarded_copy(values: np.ndarray, strides: tuple[int, ...] | None = None, shift: int = 0) -> GuardedArray:
    guarded = GuardedArray(values.shape, values.dtype, strides, shift)
    guarded.array[...] = values
    return guarded
