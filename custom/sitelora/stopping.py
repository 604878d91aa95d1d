"""A request to end (SIGTERM), or the end of the terminal (SIGHUP), ends a process as Ctrl-C does: it clears up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

STOPS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stops_as_interrupt() -> Iterator[None]:
    """Let these signals raise what Ctrl-C raises, so that what this process has started and written is ended with it.

    One that is ignored stays ignored, as `nohup` wants it. Python lets only the main thread ask for any of it; in
    another one nothing changes.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOPS if main}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
