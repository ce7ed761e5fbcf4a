"""Functions that run on a module: at once if it is imported, otherwise right after its import."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType


class AfterImport(importlib.abc.MetaPathFinder):
    """Passes each named module to its function once, between `start` and `stop`."""

    def __init__(self, functions: dict[str, Callable[[ModuleType], None]]):
        self._functions = functions
        self._finding: set[str] = set()

    def start(self) -> None:
        """Call the functions of the modules that are imported already, and wait for the others."""
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
        self._finding.add(fullname)  # find_spec below asks all finders, this one included
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
        module.__spec__.loader = module.__loader__ = self._loader  # the module keeps no trace of this hook
        self._loader.exec_module(module)
        self._function(module)
