"""A site's signs of life: one word, from begin to end, and a last one that waits for its receipt."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from sitelora.federation.presence import AWAY, BUSY, IDLE, LEFT, MOST_NAMES, Presence
from sitelora.flare.signs import TOPIC, SignsOfLife, receive_signs


class Wire:
    """As much of NVFlare's engines as a sign needs: what is sent to it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, float]] = []
        self.broken = False
        self.handler: Callable[..., Shareable] | None = None

    @contextmanager
    def new_context(self) -> Iterator[FLContext]:
        yield FLContext()

    def send_aux_request(self, *, topic: str, request: Shareable, timeout: float, **others: Any) -> None:
        if self.broken:
            raise ConnectionError("cut")
        assert topic == TOPIC
        assert set(request) - {"__headers__"} == {"state"}, "nothing else leaves"
        self.sent.append((request["state"], timeout))

    def register_aux_message_handler(self, topic: str, handler: Callable[..., Shareable]) -> None:
        assert topic == TOPIC
        self.handler = handler


def wait_for(wire: Wire, state: str) -> None:
    deadline = time.monotonic() + 30
    while state not in [sent for sent, _ in wire.sent]:
        assert time.monotonic() < deadline, wire.sent
        time.sleep(0.01)


def test_a_change_is_told_at_once_and_an_abort_by_the_thread_itself() -> None:
    wire, signs, abort = Wire(), SignsOfLife(), Signal()
    signs.begin(wire)
    wait_for(wire, IDLE)
    signs.busy(abort)
    wait_for(wire, BUSY)
    abort.trigger(True)
    wait_for(wire, LEFT)
    assert wire.sent[-1][1] > 0, "a last word waits for its receipt"
    signs.end()
    assert [state for state, _ in wire.sent].count(LEFT) == 1


def test_a_turn_that_is_over_is_no_goodbye_and_nothing_follows_it() -> None:
    wire, signs = Wire(), SignsOfLife()
    signs.begin(wire)
    wait_for(wire, IDLE)
    signs.end(away=True)
    signs.idle()
    time.sleep(0.5)
    assert wire.sent[-1][0] == AWAY


def test_a_cut_network_disturbs_no_task() -> None:
    wire, signs = Wire(), SignsOfLife()
    wire.broken = True
    signs.begin(wire)
    signs.busy(Signal())
    signs.end()
    assert wire.sent == []


def test_the_server_hears_the_name_that_nvflare_knows() -> None:
    wire, heard = Wire(), []
    receive_signs(wire, lambda site, state: heard.append((site, state)))
    assert wire.handler is not None
    ours, peer = FLContext(), FLContext()
    peer.set_prop("__identity_name__", "site-1", private=False)
    ours.set_peer_context(peer)
    request = Shareable()
    request["state"] = BUSY
    wire.handler(topic=TOPIC, request=request, fl_ctx=ours)
    assert heard == [("site-1", BUSY)]


@pytest.mark.parametrize("state", [None, 7, {"a": 1}])
def test_a_strange_sign_is_heard_as_one(state: object) -> None:
    wire, heard = Wire(), []
    receive_signs(wire, lambda site, told: heard.append(told))
    assert wire.handler is not None
    ours, peer, request = FLContext(), FLContext(), Shareable()
    peer.set_prop("__identity_name__", "site-1", private=False)
    ours.set_peer_context(peer)
    request["state"] = state
    wire.handler(topic=TOPIC, request=request, fl_ctx=ours)
    assert heard == [str(state)]


def test_names_that_are_nobodys_fill_no_memory() -> None:
    wire, presence = Wire(), Presence()
    receive_signs(wire, presence.heard)
    assert wire.handler is not None

    def sign(name: object) -> None:
        ours, peer, request = FLContext(), FLContext(), Shareable()
        peer.set_prop("__identity_name__", name, private=False)
        ours.set_peer_context(peer)
        request["state"] = IDLE
        assert wire.handler is not None
        wire.handler(topic=TOPIC, request=request, fl_ctx=ours)

    for name in ("x" * 100_000, 7, None):
        sign(name)
    assert presence._signs == {}
    for number in range(MOST_NAMES + 10):
        presence.heard(str(number), IDLE)
    assert len(presence._signs) == MOST_NAMES
