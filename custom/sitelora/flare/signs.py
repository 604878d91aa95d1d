"""A site's signs of life, sent to the server for as long as its process lives: its name and one word, nothing else.

NVFlare tells a controller of a dead site after minutes in production, and never in its simulator.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from sitelora.federation.presence import AWAY, BUSY, IDLE, LEFT, SIGN_EVERY_S
from sitelora.names import LONGEST

TOPIC = "sitelora_sign_of_life"
_STATE = "state"
_LOOK_S = 0.2
_LAST_WORD_S = 2.0
"""How long a last sign waits for its receipt: what is only sent is lost when the process ends at once."""

logger = logging.getLogger(__name__)


class SignsOfLife:
    """Sends the signs of one site's process from a thread of its own."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._state = IDLE
        self._abort: Signal | None = None
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._sending = threading.Lock()

    def begin(self, engine: Any) -> None:
        """Send signs from now on.

        Args:
            engine: NVFlare's, of this process.
        """
        self._engine, self._state = engine, IDLE
        self._ended = threading.Event()
        threading.Thread(target=self._go_on, args=(self._ended,), name="sitelora_signs", daemon=True).start()

    def busy(self, abort: Signal) -> None:
        """Say that a task is being done; and that the process leaves, as soon as NVFlare asks for it."""
        self._state, self._abort = BUSY, abort
        self._changed.set()

    def idle(self) -> None:
        """Say that the answer is sent."""
        self._state, self._abort = IDLE, None
        self._changed.set()

    def end(self, *, away: bool = False) -> None:
        """Send a last sign: the process ends because it was asked to.

        Args:
            away: only until its next turn.
        """
        if self._engine is not None and not self._ended.is_set():
            self._ended.set()
            self._send(AWAY if away else LEFT, timeout_s=_LAST_WORD_S)

    def _go_on(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self._send(self._state)
            self._changed.clear()
            waited = 0.0
            while waited < SIGN_EVERY_S and not ended.is_set() and not self._changed.wait(_LOOK_S):
                waited += _LOOK_S
                if self._abort is not None and self._abort.triggered:
                    self.end()

    def _send(self, state: str, *, timeout_s: float = 0.0) -> None:
        request = Shareable()
        request[_STATE] = state
        try:
            with self._sending, self._engine.new_context() as fl_ctx:
                self._engine.send_aux_request(
                    targets=None, topic=TOPIC, request=request, timeout=timeout_s, fl_ctx=fl_ctx, optional=True
                )
        except Exception as error:  # no sign is a sign too: the server draws its conclusion, the task goes on
            logger.debug("no sign of life could be sent: %r", error)


def receive_signs(engine: Any, heard: Callable[[str, str], None]) -> None:
    """Hand every sign to ``heard``, as the site's name and its state.

    Args:
        engine: NVFlare's, of the server. heard: called from NVFlare's threads.
    """

    def receive(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        site = fl_ctx.get_peer_context()
        name = site.get_identity_name() if isinstance(site, FLContext) else None
        if isinstance(name, str) and len(name) <= LONGEST:
            heard(name, str(request.get(_STATE, "")))
        return make_reply(ReturnCode.OK)

    engine.register_aux_message_handler(TOPIC, receive)
