"""Why a job did not run to its end, from what NVFlare and SiteLoRA have left: a kit's logs, or a downloaded job.

NVFlare itself tells a lead ``FAILED_TO_RUN`` or ``EXECUTION_EXCEPTION``; the sentence that says why is in a log of the
server, or in the run's own ``result.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sitelora.federation.files import json_if_readable
from sitelora.federation.run_folder import RESULT
from sitelora.site_kit.startup_kit import KitError, StartupKit

_LOG, _ERRORS, _WORKSPACE = "log.txt", "error_log.txt", "workspace"
_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ - \S+ - (?P<level>[A-Z]+) - (?:\[[^]]*\] - )?(?P<text>.*)$")
_MOST = 10


def reasons(place: Path, job_id: str = "") -> list[str]:
    """Return why a job ended as it did; none where nothing says so.

    Args:
        place: a folder that `nvflare job download` has written, or the kit of the server or a site.
        job_id: which job, for a kit.

    Raises:
        KitError: the folder is neither.
    """
    if (place / "startup").is_dir():
        kit = StartupKit.read(place)
        if not re.fullmatch(r"[0-9a-f-]{36}", job_id):
            raise KitError(f"found {job_id!r}, expected the job_id that `nvflare job submit` printed")
        own = kit.path / job_id / _ERRORS
        told = [text for text in _errors(kit.path / _LOG) if job_id in text]
        return _first([*told, *(_errors(own) if own.is_file() else [])])
    inside = place / _WORKSPACE
    if not inside.is_dir() and not (place / "job").is_dir():
        raise KitError(f"{place}: expected a folder that `nvflare job download` has written, or a kit and a job_id")
    said = json_if_readable(inside / RESULT).get("error")
    if isinstance(said, str) and said:
        return said.splitlines()
    return _first(list(_errors(inside / _ERRORS)))


def _errors(log: Path) -> Iterator[str]:
    """Yield the errors of a log, each with the lines that belong to it but for tracebacks."""
    entry: list[str] | None = None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else ():
        found = _ENTRY.match(line)
        if found is None:
            if entry is not None and line.strip():
                entry.append(line.strip())
            continue
        if entry is not None:
            yield _without_traceback(entry)
        entry = [found["text"].strip()] if found["level"] in ("ERROR", "CRITICAL") else None
    if entry is not None:
        yield _without_traceback(entry)


def _without_traceback(entry: list[str]) -> str:
    end = next((number for number, line in enumerate(entry) if line.startswith("Traceback")), len(entry))
    return "\n".join(line for line in entry[:end] if line)


def _first(texts: list[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text][:_MOST]
