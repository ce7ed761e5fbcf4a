"""float32, bfloat16 and float16 in NumPy: values as float32, storage in the kernels' format."""

from __future__ import annotations

import numpy as np

STORAGE = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(np.uint16), "float16": np.dtype(np.float16)}


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Round to nearest even into the storage type; bfloat16 is the upper half of a float32."""
    values = np.asarray(values, dtype=np.float32)
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    if dtype == "bfloat16":
        bits = values.view(np.uint32) if values.ndim else values.reshape(1).view(np.uint32).reshape(())
        rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
        return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)
    return values


def decode(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Float32 values of a stored array."""
    if dtype == "bfloat16":
        return (np.ascontiguousarray(stored).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.ascontiguousarray(stored).astype(np.float32)


def round_to(values: np.ndarray, dtype: str) -> np.ndarray:
    return decode(encode(values, dtype), dtype)
