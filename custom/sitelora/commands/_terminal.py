"""Texts that others wrote, as a terminal may show them: a server's, another site's, a file's name or what is in it."""

from __future__ import annotations

import sys


def one_line(text: str) -> str:
    """Return a text in one line, with nothing in it that steers the terminal or turns letters round."""
    return _plain(" ".join(text.split()))


def shown(text: str) -> str:
    """Return a text of several lines likewise; its lines and their columns stay."""
    return "\n".join(_plain(line) for line in text.split("\n"))


def printable(text: str) -> str:
    """Return text that this terminal's encoding can show; a file's name may hold anything."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _plain(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line)
