"""``key=value`` as people write it on a command line."""

from __future__ import annotations

import json
from typing import Any


def key_value(text: str) -> tuple[str, Any] | None:
    """Return key and value, read as JSON or, where it is none, as plain text; ``None`` without ``=`` or key."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        return None
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return key.strip(), value
