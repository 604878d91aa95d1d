"""A served model knows how it was made: ``{"model": state, "made": {...}}``, plain values only.

Serving needs the network's sizes before it can load a single tensor. They stand in the file itself, so that a model
opens with no more than its own path, and a wrong bundle is told in one sentence instead of a list of tensor shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

MADE = "made"
NEEDED = ("bundle", "arch", "image_size", "classes", "labels", "pictures", "slices")
"""What every model says of itself, beside what the run that made it adds."""
_PLAIN = (str, int, float, bool, type(None))


def described(**values: Any) -> dict[str, Any]:
    """Return what a model file says of how it was made, as values that any reader takes.

    Args:
        values: bundle, arch, image_size, classes, labels (value to name), pictures, slices, and whatever a run adds.

    Raises:
        ValueError: something needed is missing, or a value is no plain one.
    """
    missing = [key for key in NEEDED if key not in values]
    if missing:
        raise ValueError(f"a model that does not say {', '.join(missing)} cannot be opened by itself; give them")
    return {key: _plain(key, value) for key, value in values.items()}


def made_of(path: str | Path, *, bundle: str) -> dict[str, Any]:
    """Return how the model in a file was made; nothing where there is no file or it is older than this.

    Args:
        path: of the model. bundle: the one that is to open it.

    Raises:
        ValueError: the file is damaged, is no model of SiteLoRA, or was made with another bundle.
    """
    file = Path(path)
    if not file.is_file():
        return {}
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(
            f"{file} is no model that can be opened ({type(error).__name__}); expected a personal.pt of a site or a "
            "model.pt of this bundle, whole: copy it again"
        ) from error
    if not isinstance(content, Mapping) or "model" not in content:
        found = sorted(map(str, content))[:5] if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{file} holds {found}, expected a model of SiteLoRA (a personal.pt of a site)")
    made: dict[str, Any] = dict(content.get(MADE) or {})
    if made and made.get("bundle") != bundle:
        raise ValueError(
            f"{file} was made with the bundle {made.get('bundle')}, this is {bundle}: open it with that bundle's "
            "configs/inference.json and --bundle_root"
        )
    return made


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(f"{key}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(key, inner) for inner in value]
    if not isinstance(value, _PLAIN):
        raise ValueError(f"{key} is a {type(value).__name__}, expected plain values in a model file")
    return value
