"""Tensor-name patterns, matched segment by segment: ``*`` is one segment, ``**`` any number of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_WRAPPERS = frozenset({"module", "_orig_mod"})  # added by DistributedDataParallel and torch.compile


def clean_name(name: str) -> str:
    """Return a tensor name without the segments that wrappers add (``module.``, ``_orig_mod.``), however nested."""
    *path, last = name.split(".")
    return ".".join([*(segment for segment in path if segment not in _WRAPPERS), last])


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> re.Pattern[str]:
    if not pattern or any(not segment for segment in pattern.split(".")):
        raise ValueError(
            f"the pattern {pattern!r} has an empty segment; write segments between dots, `*` for one "
            "segment and `**` for any number, for example `image_encoder.**.B`"
        )
    if pattern.startswith("@"):
        raise ValueError(f"{pattern!r} speaks of a part of a network: take the method `on` the network's parts first")
    parts: list[str] = []
    for segment in pattern.split("."):
        if segment == "**":
            parts.append(r"(?:[^.]+\.)*")
        else:
            parts.append("".join("[^.]*" if c == "*" else re.escape(c) for c in segment) + r"\.")
    return re.compile("".join(parts))


def matches(pattern: str, name: str) -> bool:
    """Say whether ``pattern`` names the tensor ``name``; ``a.**`` also names ``a`` itself."""
    return _compile(pattern).fullmatch(clean_name(name) + ".") is not None


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Say whether any of ``patterns`` names the tensor ``name``."""
    return any(matches(pattern, name) for pattern in patterns)
