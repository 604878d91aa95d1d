"""segment_anything's own modules (Kirillov et al., 2023), without the `__init__` that wants torchvision.

The modules live under a private alias in `sys.modules`; `segment_anything` itself is neither imported nor
replaced.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_ALIAS = "_sitelora_segment_anything_modeling"


def load_modeling() -> ModuleType:
    """Return `segment_anything.modeling`, loaded once under a private alias.

    Raises:
        ModuleNotFoundError: segment-anything is not installed.
    """
    if _ALIAS in sys.modules:
        return sys.modules[_ALIAS]
    package = importlib.util.find_spec("segment_anything")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            "segment-anything was not found, and the SAM networks are built from its modules: "
            "install it with `pip install segment-anything==1.0` (torchvision is not needed)"
        )
    folder = Path(next(iter(package.submodule_search_locations))) / "modeling"
    spec = importlib.util.spec_from_file_location(
        _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"segment-anything has no modeling package at {folder}; reinstall version 1.0")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_ALIAS]
        raise
    return module
