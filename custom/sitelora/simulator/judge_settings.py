"""A job's values judged before a process of the run starts, in a short process of its own.

Judging needs the methods and therefore torch; the runner sits beside a server and its sites while they work, and has no
use for hundreds of megabytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.late_imports import import_late
from sitelora.simulator.processes import environment
from sitelora.value_kinds import SettingsError


def judged_values(
    *, bundle: str, values: Mapping[str, Any], changes: Mapping[str, Any], sites: Sequence[str], method: str | None
) -> dict[str, Any]:
    """Return the values of a run as they are used.

    Args:
        bundle: name of the bundle. values: the job's, by id. changes: in place of them. sites: of the federation.
        method: another method, at the rank and scale that the values have.

    Raises:
        SettingsError: a value that may not be set, or not to this, or that this machine cannot train with.
    """
    asked = {"bundle": bundle, "values": dict(values), "changes": dict(changes), "sites": list(sites), "method": method}
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(asked),
        env=environment(home=Path(), data=None),
        capture_output=True,
        text=True,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise SettingsError(f"bundle {bundle}: its values could not be judged:\n{done.stderr.strip()}") from None
    if "refused" in answer:
        raise SettingsError(answer["refused"])
    found: dict[str, Any] = answer["values"]
    return found


def _judge(asked: Mapping[str, Any]) -> dict[str, Any]:
    from sitelora.federation.preflight import require_trainable
    from sitelora.settings import changed_values, read_settings

    bundle = asked["bundle"]
    values = changed_values(bundle, asked["values"], asked["changes"], method=asked["method"])
    settings = read_settings(bundle, values, sites=asked["sites"])
    require_trainable(settings)
    return dict(settings.values)


if __name__ == "__main__":
    import_late()
    try:
        result: dict[str, Any] = {"values": _judge(json.load(sys.stdin))}
    except (ValueError, LookupError, FileNotFoundError) as error:
        result = {"refused": str(error)}
    sys.stdout.write(f"{json.dumps(result)}\n")
