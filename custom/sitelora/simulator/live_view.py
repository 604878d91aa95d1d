"""A run on a terminal: one block that is redrawn in place, or short plain lines when nobody is watching."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from sitelora.metric import Metric
from sitelora.simulator.event_follower import Event, RunView

_BAR, _WIDTH = 12, 110
"""Of the table; a narrower terminal shows its left part."""


class RunDisplay:
    """Shows a run while it happens.

    Args:
        view: what the run adds up to; the display only reads it.
        title: its first words.
        stream: where to write. live: redraw in place; by default only if the stream is a terminal that can.
    """

    def __init__(self, view: RunView, *, title: str, stream: TextIO, live: bool | None = None) -> None:
        self._view = view
        self._title = title
        self._stream = stream
        terminal = stream.isatty() if live is None else live
        # Names and errors come from elsewhere: nothing in them is markup.
        console = Console(file=stream, force_terminal=terminal, markup=False, emoji=False, highlight=False)
        self._live = Live(console=console, auto_refresh=False) if console.is_interactive else None

    def show(self, events: list[Event]) -> None:
        """Show the view after these events were taken."""
        if self._live is not None:
            self._live.start()
            self._live.update(block(self._view, self._title), refresh=True)
            return
        for event in events:
            line = plain_line(event, self._view.rounds, self._view.primary)
            if line:
                self._stream.write(f"[{self._view.seconds():4.0f} s] {line}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the block as it is and give the cursor back."""
        if self._live is not None:
            self._live.stop()


def block(view: RunView, title: str) -> Group:
    """Return what is redrawn; what is wider than the terminal is cut."""
    head = [title, view.phase, clock(view.seconds())]
    left = view.seconds_left()
    if left is not None and view.phase not in ("finished", "failed"):
        head.append(f"about {clock(left)} left")
    fixed = (Column(no_wrap=True) for _ in range(6))
    table = Table.grid(*fixed, Column(no_wrap=True, ratio=1), padding=(0, 2))
    table.width = _WIDTH
    table.add_row("  rounds", "", ProgressBar(view.rounds, view.done, width=_BAR), f"{view.done}/{view.rounds}")
    for name, site in view.sites.items():
        table.add_row(
            f"  {name}",
            site.doing,
            ProgressBar(site.steps, site.step, width=_BAR) if site.steps else "",
            f"{site.step}/{site.steps}" if site.steps else "",
            "" if site.loss is None else f"loss {site.loss:.3f}",
            "" if site.score is None else f"{view.primary.title} {view.primary.text(site.score)}",
            f"up {amount(site.bytes_up)} down {amount(site.bytes_down)}" if site.bytes_up or site.bytes_down else "",
        )
    drawn = "no real data: the phantom was drawn; set SITELORA_DATA to the root of real site folders"
    told = [drawn] * bool(view.artificial) + [error.splitlines()[0] for error in view.errors[-3:]]
    return Group(_line("  ".join(head)), table, *(_line(f"  ! {text}") for text in told))


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


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
