"""Processes that hear signals as one that a person has started: what a shell or nohup ignores is inherited."""

import signal


def hear_signals() -> None:
    """Put the requests to end back to what they do by themselves; a ``preexec_fn`` of `subprocess.Popen`."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
