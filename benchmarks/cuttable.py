"""A wire between a site and the server that can be cut: a TCP proxy on loopback.

While it is cut nothing passes and nobody is told, as with a pulled cable: connections stay open at both ends, what was
sent meanwhile comes after it. (A new connection is taken by the kernel and gets no answer, where a cable gives none.)
"""

from __future__ import annotations

import contextlib
import socket
import threading


class Wire:
    """Passes on what comes to ``port`` on this machine to another port of it.

    Args:
        to: the other port.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._whole = threading.Event()
        self._whole.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def cut(self) -> None:
        """Let nothing pass from now on."""
        self._whole.clear()

    def mend(self) -> None:
        """Let pass what has come since, and all that comes."""
        self._whole.set()

    def close(self) -> None:
        """Take no further connection."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), name="wire", daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._whole.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._to))
        except OSError:  # the server is away, and so it is for who asks here
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=self._pass_on, args=(one, other), name="wire", daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self._whole.wait()
                other.sendall(data)
        self._whole.wait()
        for end in (one, other):  # whichever end was closed: the other hears of it, and the thread beside this ends
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
