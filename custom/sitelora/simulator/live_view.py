"""A run on a terminal: one block that is redrawn in place, or short plain lines when nobody is watching."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TextIO

from sitelora.metric import Metric
from sitelora.simulator.event_follower import Event, RunView, SiteView

_BAR = 12
_UP = "\x1b[{lines}F\x1b[J"


class RunDisplay:
    """Shows a run while it happens.

    Args:
        view: what the run adds up to; the display only reads it.
        title: its first words.
        stream: where to write. live: redraw in place; by default only if the stream is a terminal.
    """

    def __init__(self, view: RunView, *, title: str, stream: TextIO, live: bool | None = None) -> None:
        self._view = view
        self._title = title
        self._stream = stream
        self._live = stream.isatty() if live is None else live
        self._drawn = 0

    def show(self, events: list[Event]) -> None:
        """Show the view after these events were taken."""
        if self._live:
            self._redraw()
            return
        for event in events:
            line = plain_line(event, self._view.rounds, self._view.primary)
            if line:
                self._stream.write(f"[{self._view.seconds():4.0f} s] {line}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Write lines that stay, below the block."""
        self._drawn = 0
        self._stream.write(text.rstrip("\n") + "\n")
        self._stream.flush()

    def _redraw(self) -> None:
        size = shutil.get_terminal_size((100, 24))
        lines = block(self._view, self._title, width=max(40, size.columns - 1))
        lines = lines[: max(2, size.lines - 1)]
        back = _UP.format(lines=self._drawn) if self._drawn else ""
        self._stream.write(back + "\n".join(lines) + "\n")
        self._stream.flush()
        self._drawn = len(lines)


def block(view: RunView, title: str, *, width: int) -> list[str]:
    """Return the lines of the redrawn block, none longer than ``width``."""
    head = [title, view.phase, clock(view.seconds())]
    left = view.seconds_left()
    if left is not None and view.phase not in ("finished", "failed"):
        head.append(f"about {clock(left)} left")
    lines = ["  ".join(head), f"  rounds {bar(view.done, view.rounds)} {view.done}/{view.rounds}"]
    if view.artificial:
        lines.append("  ! no real data: the phantom was drawn; set SITELORA_DATA to the root of real site folders")
    name_width = max((len(name) for name in view.sites), default=0)
    lines += [f"  {name:<{name_width}}  {site_text(site, view.primary)}" for name, site in view.sites.items()]
    lines += [f"  ! {error.splitlines()[0]}" for error in view.errors[-3:]]
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]


def site_text(site: SiteView, primary: Metric) -> str:
    """Return what one site is doing, in one line."""
    parts = [f"{site.doing:<17}"]
    if site.steps:
        parts.append(f"{bar(site.step, site.steps)} {site.step:>3}/{site.steps:<3}")
    if site.loss is not None:
        parts.append(f"loss {site.loss:.3f}")
    if site.score is not None:
        parts.append(f"{primary.title} {primary.text(site.score)}")
    if site.bytes_up or site.bytes_down:
        parts.append(f"up {amount(site.bytes_up)} down {amount(site.bytes_down)}")
    return "  ".join(parts)


def bar(done: int, total: int) -> str:
    """Return a bar of fixed width."""
    filled = _BAR * done // total if total else 0
    return "█" * filled + "░" * (_BAR - filled)


def clock(seconds: float) -> str:
    """Return minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def amount(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def plain_line(event: Event, rounds: int, primary: Metric) -> str | None:
    """Return one short line for an event, or None for those that nobody misses in a log."""
    texts: dict[str, Callable[[], str]] = {
        "federation_started": lambda: (
            f"federation {event['federation']}, uid {event['uid']}: {len(event['sites'])} sites, {event['method']}"
            + (f", going on after round {event['first_round']}" if event["first_round"] else "")
        ),
        "begun": lambda: f"all {len(event['sites'])} sites agree on version, bundle and base",
        "round_started": lambda: f"round {event['round'] + 1}/{rounds} begins",
        "update": lambda: _update_line(event, rounds, primary),
        "round_finished": lambda: f"round {event['round'] + 1}/{rounds} written after {event['seconds']:.1f} s",
        "evaluation_started": lambda: "evaluation begins",
        "evaluated": lambda: f"evaluation: {event['site']} is done",
        "artificial_data": lambda: f"{event['who']}: NO REAL DATA, trains on a drawn phantom in {event['folder']}",
        "error": lambda: f"{event['who']}: FAILED: {event['error']}",
        "finished": lambda: "all rounds done" if event["completed"] else f"FAILED: {event['error']}",
    }
    return texts[event["event"]]() if event["event"] in texts else None


def _update_line(event: Event, rounds: int, primary: Metric) -> str:
    where = f"round {event['round'] + 1}/{rounds}: {event['site']}"
    if event["status"] != "ok":
        return f"{where} {event['status']}: {event.get('reason', '')}".rstrip(": ")
    metrics = event.get("metrics") or {}
    parts = [f"{where} sent {amount(event['bytes_up'])}"]
    if "loss" in metrics:
        parts.append(f"loss {metrics['loss']:.3f}")
    if "score_received" in metrics and "score_personal" in metrics:
        before, after = (primary.text(metrics[f"score_{kind}"]) for kind in ("received", "personal"))
        parts.append(f"{primary.title} {before} -> {after}")
    return ", ".join(parts)
