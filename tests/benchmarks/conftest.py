"""Tests that need torch or JAX are collected where those are installed."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [f"*_{name}.py" for name in ("torch", "jax") if not find_spec(name)]
if not find_spec("torch"):
    collect_ignore_glob.append("*_jax.py")
