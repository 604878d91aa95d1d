"""Which methods there are: one file a paper or baseline in `sitelora.methods`, found by looking, never by a list."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import sitelora.methods
from sitelora.method import Method
from sitelora.value_kinds import did_you_mean, key_value, short

ALIASES: Mapping[str, str] = {"fedit": "fedavg_lora"}
"""Names from papers, to the module."""

REFERENCES: Mapping[str, str] = {"ma_sam": "sitelora.references.ma_sam.ma_sam"}
"""Names that are no federated method, to their function: what is trained on all images in one place."""


def own_name(name: str) -> str:
    """Return a method's own name for one of its names, arguments kept; a name that is none of them stays."""
    name, plus, arguments = name.partition("+")
    return f"{ALIASES.get(name, name)}{plus}{arguments}"


def method_names() -> list[str]:
    """Return the names of all methods: the modules of `sitelora.methods`, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(sitelora.methods.__path__))


def find_method(name: str) -> Callable[..., Method]:
    """Return the function of the same name in ``methods/<name>.py``, or of a module elsewhere: ``module.function``.

    Raises:
        ValueError: no such method, with those that exist.
    """
    name = own_name(name)
    name = REFERENCES.get(name, name)
    if "." in name:
        return _from_elsewhere(name)
    if name not in method_names():
        near = did_you_mean(name, method_names())
        raise ValueError(f"no method is called {short(name)}{near}; there are: {', '.join(method_names())}")
    function: Callable[..., Method] = getattr(importlib.import_module(f"{sitelora.methods.__name__}.{name}"), name)
    return function


def _from_elsewhere(name: str) -> Callable[..., Method]:
    """Return a function that stands in the module that was named, or in one below it; nothing that it imported.

    Whoever allows a module means the methods in it, not ``os.system`` where it says ``from os import system``.
    """
    module, _, function = name.rpartition(".")
    expected = "expected MODULE.FUNCTION of a module that python can import here: install it, or set PYTHONPATH"
    if not all(part.isidentifier() for part in name.split(".")) or function.startswith("_"):
        raise ValueError(f"no method is called {short(name)}; {expected}")
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # whatever a stranger's module does while it is imported
        raise ValueError(f"no method is called {name!r}: {type(error).__name__}: {error}; {expected}") from error
    home = getattr(found, "__module__", None)
    stands_there = isinstance(home, str) and (home == module or home.startswith(f"{module}."))
    if not (inspect.isfunction(found) and found.__name__ == function and stands_there):
        raise ValueError(
            f"{name} is no function that is written in {module}, so it cannot be a method; expected one that begins "
            f"with `def {function}(` there, and returns a sitelora Method"
        )
    checked: Callable[..., Method] = found
    return checked


def with_arguments(text: str) -> tuple[str, dict[str, Any]]:
    """Return a method's own name and the arguments that follow it: ``iat+sor_weight=0+heads=local``.

    Raises:
        ValueError: a part is no KEY=VALUE, or a key is there twice.
    """
    name, *parts = own_name(text).split("+")
    arguments: dict[str, Any] = {}
    for part in parts:
        pair = key_value(part)
        if pair is None:
            raise ValueError(f"found {part!r} in {text!r}, expected NAME+KEY=VALUE, for example iat+sor_weight=0")
        if pair[0] in arguments:
            raise ValueError(f"found {pair[0]} twice in {text!r}, expected every argument once; remove one")
        arguments[pair[0]] = pair[1]
    return name, arguments


def accepted(function: Callable[..., Method], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that a method takes: not every one has a rank."""
    taken = inspect.signature(function).parameters
    return {key: value for key, value in arguments.items() if key in taken}
