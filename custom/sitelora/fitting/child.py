"""A probe as a child process, watched: whatever it takes, the machine and the command that asked stay as they are."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

from sitelora.federation.refusals import OUT_OF_MEMORY
from sitelora.fitting.measured import Measured, ProbeRequest
from sitelora.simulator.processes import environment
from sitelora.typed_json import from_json, to_json

_SECONDS_BETWEEN_LOOKS = 0.05


class FitError(RuntimeError):
    """A job cannot be probed here; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class DoesNotFit:
    """A probe that ran out of memory.

    Attributes:
        why: in words.
    """

    why: str


def run_probe(request: ProbeRequest, *, most_bytes: int | None) -> Measured | DoesNotFit:
    """Run one probe in a process of its own.

    Args:
        request: what to probe. most_bytes: resident memory at which the process is ended; None for no end.

    Raises:
        FitError: it failed for another reason than memory.
    """
    env = environment(home=Path(request.home), data=None)
    command = [sys.executable, "-m", "sitelora.fitting.probe"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, env=env, cwd=request.home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            over, done = threading.Event(), threading.Event()
            watch = threading.Thread(target=_end_above, args=(process, most_bytes, over, done), daemon=True)
            watch.start()
            out, _ = process.communicate(json.dumps(to_json(request)))
        finally:
            if process.poll() is None:  # Ctrl-C or SIGTERM
                process.kill()
                process.wait()
            done.set()
            watch.join()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if over.is_set():
        assert most_bytes is not None
        return DoesNotFit(why=f"it grew beyond {most_bytes / 1e9:.2f} GB and was ended")
    if process.returncode == -9:  # Linux has nobody else to tell
        return DoesNotFit(why="the system ended it for want of memory (SIGKILL)")
    try:
        told = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        last = said.splitlines()[-1] if said else "it said nothing"
        raise FitError(f"the probe ended with exit code {process.returncode}: {last}") from None
    if "error" in told:
        if told["code"] == OUT_OF_MEMORY:
            return DoesNotFit(why=str(told["error"]))
        raise FitError(str(told["error"]))
    return from_json(Measured, told["measured"])


def _end_above(
    process: subprocess.Popen[str], most_bytes: int | None, over: threading.Event, done: threading.Event
) -> None:
    """End a process that holds more than it may; a machine that swaps or kills would hurt others first."""
    try:
        watched = psutil.Process(process.pid)
        while most_bytes is not None and not done.wait(_SECONDS_BETWEEN_LOOKS):
            if watched.memory_info().rss > most_bytes:
                over.set()
                process.kill()
                return
    except psutil.Error:
        return
