"""Old import paths of public modules that were moved. They still work, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Old module -> the modules that now contain its names.
MOVED: Mapping[str, tuple[str, ...]] = {
    "distill.explanations": ("distill.workflows.explain", "distill.report.explained"),
    "distill.hooked": ("distill.models.hooked",),
    "distill.metrics.statistics": ("distill.metrics.significance",),
}


class MovedModules(MetaPathFinder, Loader):
    """Finder and loader for the modules in :data:`MOVED`. Python calls it after its standard finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a module specification if ``fullname`` is an old path, else None."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Set the module's ``__getattr__`` to look names up in the new modules, and warn."""
        targets = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} moved; import from {' or '.join(targets)}.", DeprecationWarning, stacklevel=2)

        def look_up(name: str) -> Any:
            for target in targets:
                moved = importlib.import_module(target)
                if hasattr(moved, name):
                    return getattr(moved, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = look_up  # type: ignore[method-assign]


def install() -> None:
    """Add the finder to ``sys.meta_path``, unless it is there already."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
