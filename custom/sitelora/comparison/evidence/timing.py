"""How long a row trains: a few rounds of it, alone on the machine, beside runs that shared it and whose seconds lie."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sitelora.comparison.evidence.alone import Watch
from sitelora.comparison.evidence.experiment import REFERENCE, Protocol
from sitelora.comparison.evidence.job import EvidenceJob
from sitelora.comparison.evidence.plan import choose, sources
from sitelora.comparison.evidence.prepared import prepare, train
from sitelora.comparison.evidence.results import Results
from sitelora.comparison.run import commit
from sitelora.comparison.run_file import ComparisonError
from sitelora.federation.files import write_json
from sitelora.federation.machine import hardware

ROUNDS = 4
"""That are timed: the first warms up and the last validates, so the median is taken of those between."""


def untimed(results: Results, rules: Protocol, out: Path) -> Iterator[EvidenceJob]:
    """Yield one run of every row that has settled and was not timed, in the cell that its rate and length come from."""
    asks, seen = results.asks, set[Path]()
    for cell in sources(asks):
        choice = choose(results, cell, rules)
        for row, rate in choice.rates.items() if choice.done else ():
            entry = asks.entries[row]
            one = EvidenceJob(
                experiment=results.name, cell=cell, entry=entry, rate=rate, steps=choice.steps, seed=0, what=asks
            )
            file = one.seconds_file(out)
            trains = not entry.probe and not (asks.newcomers and entry.method == REFERENCE)
            if trains and file not in seen and not file.is_file():
                seen.add(file)
                yield one


def time_rounds(one: EvidenceJob, *, data: Path, out: Path) -> Path:
    """Time a row's rounds and return the file that says so.

    Args:
        data: root of the site folders. out: folder of all results.

    Raises:
        ComparisonError: something else was at work meanwhile; nothing is written. RefusedError: another kind of
            processor, versions or data than its block has.
    """
    with tempfile.TemporaryDirectory(prefix="sitelora-evidence-") as place:
        ready = prepare(one, data=data, out=out, place=Path(place))
        watch = Watch()
        fewer = {"validate_every": ROUNDS}
        result = train(one, ready, home=Path(place) / "home", rounds=ROUNDS, overrides=fewer)
        told = watch.told()
    if not told["seconds_valid"]:
        raise ComparisonError(
            f"{one}: other processes used {told['others_cores']:.2f} cores meanwhile, so these seconds mean nothing: "
            "none were written; stop the others, and the same command goes on"
        )
    seconds = statistics.median(each.seconds or 0.0 for each in result.rounds[1:-1])
    content = {
        **one.head,
        "commit": commit(),
        "kind": ready.kind,
        "hardware": hardware(),
        "rounds_timed": ROUNDS,
        "seconds_of_a_round": round(seconds, 2),
        "seconds_a_site": round(seconds * one.asks.rounds / len(ready.sites), 1),
        "others_cores": told["others_cores"],
    }
    file = one.seconds_file(out)
    write_json(file, content, private=False)
    return file
