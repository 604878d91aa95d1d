"""A run as its participants tell it, and the block and lines that a person sees."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sitelora.federation.events import EventLog
from sitelora.simulator.event_follower import EventFollower, RunView, SiteView
from sitelora.simulator.live_view import RunDisplay, block, plain_line
from sitelora.tasks.segmentation import DICE
from sitelora.typed_json import to_json


def test_the_follower_tells_new_whole_lines_only(tmp_path: Path) -> None:
    old = EventLog(tmp_path / "server", "server")
    old.write("finished", completed=False, error="an earlier run")
    follower = EventFollower(tmp_path)
    assert follower.poll() == []
    site = EventLog(tmp_path / "site-1", "site-1")
    site.write("task_started", task="train", round=0, bytes_down=10)
    with site.path.open("a") as stream:
        stream.write('{"time": 1, "who": "site-1", ')
    assert [event["event"] for event in follower.poll()] == ["task_started"]
    with site.path.open("a") as stream:
        stream.write('"event": "step"}\n')
    assert [event["event"] for event in follower.poll()] == ["step"]
    assert follower.poll() == []


def events_of_a_round() -> list[dict[str, Any]]:
    started = {"federation": "fed", "uid": "u", "sites": ["site-1", "site-2"], "first_round": 0, "method": "iat"}
    started["primary"] = to_json(DICE)
    metrics = {"loss": 0.5, "score_received": 0.1, "score_personal": 0.6}
    lines: list[tuple[str, str, dict[str, Any]]] = [
        ("server", "federation_started", started),
        ("site-1", "artificial_data", {"folder": "somewhere"}),
        ("server", "begun", {"sites": {"site-1": {}, "site-2": {}}}),
        ("server", "round_started", {"round": 0}),
        ("site-1", "task_started", {"task": "train", "round": 0, "bytes_down": 2000}),
        ("site-1", "step", {"round": 0, "step": 3, "steps": 4, "loss": 0.4567}),
        ("site-1", "left", {"round": 0, "tensors": 2, "bytes": 1000}),
        ("site-1", "task_finished", {"task": "train", "round": 0, "seconds": 2.0, "metrics": metrics}),
        ("site-2", "error", {"error": "site-2: no data\nlook there"}),
        ("server", "update", {"round": 0, "site": "site-1", "status": "ok", "bytes_up": 1000, "metrics": metrics}),
        ("server", "update", {"round": 0, "site": "site-2", "status": "missing", "reason": "no data"}),
        ("server", "round_finished", {"round": 0, "seconds": 3.0}),
    ]
    return [{"time": n, "who": who, "event": event, **fields} for n, (who, event, fields) in enumerate(lines)]


def view_after(events: list[dict[str, Any]]) -> RunView:
    view = RunView(rounds=5, sites={"site-1": SiteView(), "site-2": SiteView()})
    for event in events:
        view.take(event)
    return view


def test_a_view_adds_events_up() -> None:
    view = view_after(events_of_a_round())
    assert (view.done, view.phase, view.artificial) == (1, "round 1 of 5", {"site-1"})
    one, two = view.sites["site-1"], view.sites["site-2"]
    assert (one.doing, one.step, one.steps, one.loss, one.score) == ("done", 3, 4, 0.4567, 0.6)
    assert (one.bytes_up, one.bytes_down) == (1000, 2000)
    assert two.doing == "missing"
    assert view.seconds_left() is not None
    assert view_after(events_of_a_round()[:6]).seconds_left() is None


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_block_fits_and_shows_every_site(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    lines = console.render_lines(block(view_after(events_of_a_round()), "fed u"))
    text = ["".join(segment.text for segment in line) for line in lines]
    assert all(len(line) <= width for line in text)
    assert len(text) == 6  # title, rounds, two sites, two warnings: nothing is wrapped
    assert all(word in "\n".join(text) for word in ("site-1", "site-2", "1/5", "no real data", "no data"))
    if width >= 100:
        assert all(word in "\n".join(text) for word in ("loss 0.457", "Dice 0.600", "up 1.0 kB", "down 2.0 kB", "left"))


def test_a_terminal_gets_one_block_that_is_redrawn_and_a_log_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    view, events = view_after(events_of_a_round()), events_of_a_round()
    terminal, log = io.StringIO(), io.StringIO()
    display = RunDisplay(view, title="fed u [red]", stream=terminal, live=True)
    display.show(events[:3])
    once = terminal.getvalue()
    display.show(events[3:])
    display.end()
    assert "fed u [red]" in once  # a name is no markup
    assert terminal.getvalue().removeprefix(once).count("\x1b[1A") >= 5  # up over every line of the block
    assert terminal.getvalue().endswith("\x1b[?25h")  # the cursor is there again
    monkeypatch.setenv("FORCE_COLOR", "1")
    RunDisplay(view, title="fed u", stream=log).show(events)
    assert "\x1b" not in log.getvalue()
    assert "round 1/5: site-1 sent 1.0 kB, loss 0.500, Dice 0.100 -> 0.600" in log.getvalue()
    assert "round 1/5: site-2 missing: no data" in log.getvalue()
    assert "NO REAL DATA" in log.getvalue()


def test_a_terminal_that_cannot_redraw_gets_plain_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = io.StringIO()
    RunDisplay(view_after([]), title="fed u", stream=terminal, live=True).show(events_of_a_round())
    assert "\x1b" not in terminal.getvalue()
    assert "round 1/5 begins" in terminal.getvalue()


def test_unknown_events_are_no_harm() -> None:
    event = {"time": 0, "who": "site-1", "event": "from the future"}
    view_after([event, {**event, "who": "server"}, {**event, "who": "stranger"}])
    assert plain_line(event, 5, DICE) is None
