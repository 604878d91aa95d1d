"""What a site's process says to the worker of a simulated run, or to its followers: JSON and tensors, in frames.

A frame is two lengths, the JSON and a packet in safetensors' format. Both are data: no pickle, no name of a class.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from sitelora.federation.refusals import FAILED

PATIENCE_S = 10.0
"""How long one may take to end."""
_LENGTHS = struct.Struct("<IQ")
LARGEST_WORDS = 64 * 1024 * 1024
"""Bytes of the JSON of one frame; a report of scores has a thousandth."""


class WorkerGone(ConnectionError):
    """The other end has ended, in the middle of something or before it."""

    code = FAILED


def send(connection: socket.socket, words: Mapping[str, Any], packet: bytes = b"") -> None:
    """Send one frame.

    Raises:
        OSError: the other end has gone.
    """
    text = json.dumps(words).encode()
    connection.sendall(_LENGTHS.pack(len(text), len(packet)) + text)
    connection.sendall(packet)


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Wait for one frame; return its JSON object and its packet.

    Raises:
        WorkerGone: the other end has gone. ValueError: it is no frame.
    """
    words, size = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    if words > LARGEST_WORDS:
        raise ValueError(f"a frame with {words} bytes of JSON, expected at most {LARGEST_WORDS}")
    found = json.loads(_exactly(connection, words))
    if not isinstance(found, dict):
        raise ValueError(f"a frame with a {type(found).__name__}, expected a JSON object")
    return found, _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = connection.recv(min(size - len(data), 1 << 20))
        if not more:
            raise WorkerGone("the other end has gone")
        data += more
    return bytes(data)


def end_by_input(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes that live as long as their standard input: close it, wait, and kill who stays."""
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()
    for process in processes:
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
