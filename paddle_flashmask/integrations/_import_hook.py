"""Runs a function on a module: now if the module is imported, otherwise right after its import."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType


class AfterImport(importlib.abc.MetaPathFinder):
    """Watches module names between `start` and `stop` and hands each module to its function once."""

    def __init__(self, functions: dict[str, Callable[[ModuleType], None]]):
        self._functions = functions
        self._finding: set[str] = set()

    def start(self) -> None:
        """Handles the modules that are imported already and waits for the others."""
        if self in sys.meta_path:
            return
        sys.meta_path.insert(0, self)
        for name, function in self._functions.items():
            if name in sys.modules:
                function(sys.modules[name])

    def stop(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, fullname, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._functions or fullname in self._finding:
            return None
        self._finding.add(fullname)  # the other finders are asked below, through this one again
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderThenFunction(spec.loader, self._functions[fullname])
        return spec


class _LoaderThenFunction(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, function: Callable[[ModuleType], None]):
        self._loader = loader
        self._function = function

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self._loader  # as if nobody had watched
        self._loader.exec_module(module)
        self._function(module)
