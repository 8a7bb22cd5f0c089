"""Old import paths of public modules that moved; importing one works and gives a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Old module -> the modules that have its names now.
MOVED: Mapping[str, tuple[str, ...]] = {
    "distill.explanations": ("distill.workflows.explain", "distill.report.explained"),
    "distill.hooked": ("distill.models.hooked",),
    "distill.metrics.statistics": ("distill.metrics.significance",),
}


class MovedModules(MetaPathFinder, Loader):
    """Finds the modules of :data:`MOVED`; asked after Python's own finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a specification for an old path, else None."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Let the module look its names up where they are now."""
        places = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} moved; import from {' or '.join(places)}.", DeprecationWarning, stacklevel=2)

        def look_up(name: str) -> Any:
            for place in places:
                found = importlib.import_module(place)
                if hasattr(found, name):
                    return getattr(found, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = look_up  # type: ignore[method-assign]


def install() -> None:
    """Add the finder, once."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
