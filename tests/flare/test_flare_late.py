"""A site that is slower than the deadline: the round goes on, it is named, and what comes late counts nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

from sitelora.federation.task_names import TRAIN
from sitelora.federation.ticket import Ticket
from sitelora.flare.asking import AskingController
from sitelora.flare.protocol import Reply


class Desk(AskingController):
    """A server whose tasks are handed to nobody: the test answers them, and says when their time is over."""

    def __init__(self) -> None:
        super().__init__()
        self.abort_signal = Signal()
        self.sent: list[tuple[str, Callable[[FLModel], None]]] = []
        self.standing = 0
        self.cancelled = 0

    def run(self) -> None:
        """There is no run."""

    def send_model(self, *model: Any, targets: Any = None, callback: Any = None, **others: Any) -> None:
        self.sent.append((targets[0], callback))
        self.standing += 1

    def get_num_standing_tasks(self) -> int:
        return self.standing

    def cancel_all_tasks(self, *others: Any, **more: Any) -> None:
        self.cancelled += 1
        self.standing = 0

    def answer(self, sent: int, number: int, value: float) -> None:
        """Answer the task that was sent at this place, for a round."""
        meta = {**ticket(number).meta(), "report": {"value": value}}
        self.sent[sent][1](FLModel(params_type=ParamsType.DIFF, params={"w": torch.tensor([value])}, meta=meta))


def ticket(number: int) -> Ticket:
    return Ticket(federation="f", uid="u", round_number=number)


def told(replies: list[Reply]) -> list[tuple[str, object]]:
    return [(reply.site, reply.report.get("value") or reply.error.partition(" ")[0]) for reply in replies]


def test_a_round_ends_at_its_deadline_and_a_late_answer_is_no_answer_to_the_next_one() -> None:
    desk = Desk()
    packets: dict[str, Any] = {"site-1": {}, "site-2": {}}
    asked = desk.ask(TRAIN, ticket(0), packets, timeout=1)
    replies = []
    replies.append(_next(asked, lambda: desk.answer(0, 0, 1.0)))
    desk.standing = 0  # the time of the task is over
    replies += list(asked)
    assert told(replies) == [("site-1", 1.0), ("site-2", "no")]
    assert "no answer within" in replies[1].error
    assert desk.cancelled == 1

    again = desk.ask(TRAIN, ticket(1), packets, timeout=1)

    def all_of_it() -> None:
        desk.answer(1, 0, 2.0)  # of round 0, by the task of round 0
        desk.answer(3, 0, 3.0)  # of round 0, where round 1 was asked for
        desk.answer(2, 1, 4.0)

    replies = [_next(again, all_of_it), *again]
    assert [reply.site for reply in replies] == ["site-2", "site-1"]
    assert "answered for round 0" in replies[0].error
    assert replies[1].report == {"value": 4.0}


def test_an_answer_that_comes_twice_is_taken_once() -> None:
    desk = Desk()
    asked = desk.ask(TRAIN, ticket(0), {"site-1": {}, "site-2": {}}, timeout=1)

    def twice() -> None:
        for value in (1.0, 1.0):
            desk.answer(0, 0, value)
        desk.answer(1, 0, 2.0)

    assert told([_next(asked, twice), *asked]) == [("site-1", 1.0), ("site-2", 2.0)]


def _next(asked: Any, act: Callable[[], None]) -> Reply:
    """Let the controller send its tasks, act in between, and return the first reply."""
    import threading

    timer = threading.Timer(0.3, act)
    timer.start()
    first: Reply = next(asked)
    timer.join()
    return first
