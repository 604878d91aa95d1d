"""One file per paper or baseline; a method is found by looking in this folder, never by a list."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping

from sitelora.method import Method

ALIASES: Mapping[str, str] = {"fedit": "fedavg_lora"}
"""Names from papers, to the module."""


def own_name(name: str) -> str:
    """Return a method's own name for one of its names; a name that is none of them stays."""
    return ALIASES.get(name, name)


def method_names() -> list[str]:
    """Return the names of all methods: the modules of this folder, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_method(name: str) -> Callable[..., Method]:
    """Return the function of the same name in ``methods/<name>.py``.

    Raises:
        ValueError: no such method, with those that exist.
    """
    name = own_name(name)
    if name not in method_names():
        raise ValueError(f"no method is called {name!r}; there are: {', '.join(method_names())}")
    function: Callable[..., Method] = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    return function
