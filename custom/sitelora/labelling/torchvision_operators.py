"""Let torchvision be imported beside a torch that its compiled part was not built for.

MONAI Label imports torchvision for two functions that draw. PyPI's torchvision is built for CUDA; beside a CPU build of
torch its library does not load, and its Python then fails on two operators that nobody calls here.
"""

from __future__ import annotations

import contextlib
from importlib.util import find_spec
from pathlib import Path

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []
"""A declaration lasts as long as its library."""


def let_torchvision_load() -> None:
    """Declare what torchvision's Python looks for at import, where its library did not bring it; call it any time."""
    spec = find_spec("torchvision")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        for file in Path(folder).glob("_C*.so"):
            with contextlib.suppress(OSError):
                torch.ops.load_library(str(file))
    missing = [each for each in _OPERATORS if not hasattr(torch.ops.torchvision, each.partition("(")[0])]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in missing:
            library.define(operator)
        _kept.append(library)
