"""Which code the config of an exported bundle may hold: that of the installed bundle, place by place, and no other.

A MONAI bundle's config is code, and its hashes stand in the same folder: whoever changed one has changed the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sitelora.model_export.configs import frozen_inference
from sitelora.names import LETTERS
from sitelora.serving.open_model import OpenModel

_PLACES: Mapping[str, re.Pattern[str]] = {
    "output_dir": re.compile(rf"\$str\(home\(\) / 'runs' / '{LETTERS}' / 'inference'\)"),
    "dataset_dir": re.compile(rf"\$str\(data_root\(\) / '{LETTERS}' / '{LETTERS}'\)"),
}
"""What an export writes with names of its own in it."""
_ACTED_ON = re.compile(r"^\$|[@%]")
"""Signs in a text that MONAI acts on."""


def strange_code(found: Mapping[str, Any], model: OpenModel) -> list[str]:
    """Return the ids of a config at which it holds other code than an export of this model, or is built otherwise.

    Args:
        found: content of the bundle's inference.json, nothing of it evaluated. model: the bundle's, opened by what it
            says itself and what is installed.
    """
    expected = frozen_inference(model, line="line", site="site", dataset="dataset")
    written = {key: value for key, value in expected.items() if key not in _PLACES}
    return list(_differences({key: value for key, value in found.items() if not _is_place(key, value)}, written, ""))


def _is_place(key: str, value: object) -> bool:
    return key in _PLACES and isinstance(value, str) and _PLACES[key].fullmatch(value) is not None


def _differences(found: Any, expected: Any, id: str) -> Iterator[str]:
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for key in sorted({*map(str, found), *map(str, expected)}):
            inner = f"{id}#{key}" if id else key
            if key not in found or key not in expected:
                yield inner
            elif key.startswith("_"):
                if found[key] != expected[key]:
                    yield inner
            else:
                yield from _differences(found[key], expected[key], inner)
    elif isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            yield id
            return
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from _differences(one, other, f"{id}#{place}")
    elif found != expected and any(isinstance(one, Mapping | list) or _acts(one) for one in (found, expected)):
        yield id


def _acts(value: object) -> bool:
    return isinstance(value, str) and _ACTED_ON.search(value) is not None
