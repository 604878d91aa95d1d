"""A quick start: what MONAI and ignite import at their top and hardly ever use is imported when it is used.

``import monai`` loads all of MONAI, and with it matplotlib, scikit-image, ``scipy.signal`` and, through ignite,
``torch.distributed.optim`` with all of torch's sharding and tracing below: half of the seconds before a site's first
task, for an ultrasound transform, plots in a notebook and a sharded optimiser. Neither package can be told to wait.

So the modules in ``LATE`` become empty ones that import themselves when something of them is asked for, by Python's own
``importlib.reload``: the same module object, the ordinary loader, the import system's own lock. ``from module import
name`` asks at once; the few names that MONAI and ignite take that way are given as stand-ins, which become the real
thing when they are called, asked for anything, or when an object could be an instance of them.

Only the processes that are ours ask for this, before their first import of MONAI: `sitelora`, and a site under NVFlare.
Nobody who uses the package as a library gets it.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

LATE: dict[str, tuple[str, ...]] = {
    "matplotlib": (),
    "matplotlib.pyplot": (),
    "scipy.signal": ("hilbert", "iirnotch"),
    "skimage": (),
    "skimage.exposure": (),
    "skimage.measure": ("centroid", "find_contours"),
    "skimage.morphology": ("disk", "opening"),
    "skimage.segmentation": ("watershed",),
    "torch.distributed.optim": ("ZeroRedundancyOptimizer",),
}
"""Module -> what others take from it by name at their own top."""
_VERSION_OF = {"skimage": "scikit-image"}
"""Module -> distribution, where MONAI compares a version at its top."""
_lock = threading.RLock()
_loading: set[str] = set()


def import_late() -> None:
    """From now on import the modules of ``LATE`` when they are used; one that is imported already stays as it is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Late(ModuleType):
    """A module that is not imported yet, as its importers hold it; afterwards the same object is the plain module."""

    def __getattr__(self, name: str) -> Any:
        own = self.__name__
        if name in LATE[own] and own not in _loading:
            return _StandIn(own, name)
        if name == "__version__" and own in _VERSION_OF and own not in _loading:
            from importlib.metadata import version  # `sitelora --help` does without

            return version(_VERSION_OF[own])
        if name.startswith("__") and name != "__all__":  # what others ask of every module there is, none of its own
            raise AttributeError(f"module {own!r} has no attribute {name!r}")
        _load(self)
        return getattr(self, name)

    def __dir__(self) -> Iterable[str]:
        _load(self)
        return super().__dir__()


class _Finder:
    """Finds the modules of ``LATE`` where Python would, and has them made without being run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in LATE or fullname in _loading:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _LateLoader(spec.loader))
        return spec


class _LateLoader:
    """Makes a late module; answers everything else (resources, sources) as the ordinary loader does."""

    def __init__(self, loader: Any) -> None:
        self._ordinary = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Late(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing yet."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ordinary, name)


def _load(module: _Late) -> None:
    """Import a late module now, once, whichever thread asks first."""
    name = module.__name__
    with _lock:
        if type(module) is not _Late:
            return  # another thread was faster
        if name in _loading:  # it is being run further up, and asks itself for what it does not have yet
            raise AttributeError(f"partially imported module {name!r} has no such attribute")
        _loading.add(name)
        try:
            importlib.reload(module)
            module.__class__ = ModuleType  # type: ignore[assignment]
        finally:
            _loading.discard(name)


class _StandIn:
    """A name of a late module: a function or a class, whichever it turns out to be."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__, self.__name__, self.__qualname__ = module, name, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __mro_entries__(self, bases: tuple[type, ...]) -> tuple[type, ...]:
        return (self._real(),)

    def __instancecheck__(self, instance: Any) -> bool:
        package = f"{self.__module__}."
        if not any(f"{each.__module__}.".startswith(package) for each in type(instance).__mro__):
            return False  # no class of the late package is in it: nothing has to be imported to say so
        return isinstance(instance, self._real())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._real())

    def _real(self) -> Any:
        module = sys.modules[self.__module__]
        if type(module) is _Late:
            _load(module)
        return getattr(module, self.__name__)
