"""Dice beside bytes: the same runs with values that travel in bf16, int8 and int4.

    python benchmarks/codecs.py --data data                        as many runs as are missing, then the page
    python benchmarks/codecs.py --data data --sets nuclei --minutes 60
    python benchmarks/codecs.py --page                             the page from the files that are there

`--data` holds `lungs` and `nuclei` (`sitelora prepare lungs --source ../shared/data/chest_xray --out data`, the same of
`nuclei` from `monuseg`). FedIT (`fedavg_lora`) and IAT, three seeds, the bundle's own learning rate, which validation
chose for the shipped job `iat_lungs`: nothing is chosen here. The lengths are those of `SETS`, shorter than the setups'
so that a run takes some four minutes on a core; they are the same for all wires. `int8` is int8 up and down; `int4` is
int4 up and int8 down. One JSON a run in `results/codecs`: stopped at any moment, the same command goes on; a run on
another kind of processor than its companions is refused, because they would then differ in more than the wire.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.estimate import Estimate, Seed, estimate
from sitelora.comparison.evidence.experiment import protocol
from sitelora.comparison.evidence.loop import REFUSED, keep_running, one_thread
from sitelora.comparison.evidence.verdicts import same, same_in_words
from sitelora.comparison.run import Job, run_job
from sitelora.comparison.run_file import ComparisonError, read_run
from sitelora.comparison.scores import PERSONAL, case_values
from sitelora.comparison.setup import Setup, find_setup
from sitelora.comparison.tables import markdown
from sitelora.federation.machine import hardware
from sitelora.report.format_values import bytes_text
from sitelora.sharing.wire import WireFormat

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "codecs"
PAGE = HERE.parent / "docs" / "results" / "codecs.md"
COMMAND = "python benchmarks/codecs.py --data data"
RATE = 0.004
SEEDS = (0, 1, 2)
METHODS = ("fedavg_lora", "iat")
PLAIN = "none"
WIRES = {
    PLAIN: WireFormat(),
    "int8": WireFormat(up="int8", down="int8"),
    "int4": WireFormat(up="int4", down="int8"),
}
SETS: Mapping[str, Mapping[str, Any]] = {
    "lungs": {"setup": "lungs_short", "title": "Lungs in the chest X-rays of two hospitals"},
    "nuclei": {
        "setup": "nuclei",
        "title": "Nuclei in H&E tiles of seven tissue source sites",
        "rounds": 6,
        "left_out": (),
    },
}
"""Of every data set the setup of `sitelora compare`, and in what it is another one here."""
BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One federation: a method on a data set, over a wire, from a seed."""

    data: str
    method: str
    wire: str
    seed: int

    def __str__(self) -> str:
        return f"{self.data}, {self.method}, {self.wire}, seed {self.seed}"

    def job(self, data: Path) -> Job:
        return Job(
            name=f"{self.data}_{self.wire}",
            method=self.method,
            rate=RATE,
            seed=self.seed,
            setup=setup_of(self.data),
            data=data,
            out=RESULTS,
            command=COMMAND,
            at_a_time=1,
            wire=WIRES[self.wire],
        )

    def read(self) -> Mapping[str, Any] | None:
        file = self.job(Path()).file
        return read_run(file) if file.is_file() else None


def setup_of(data: str) -> Setup:
    shorter = {key: value for key, value in SETS[data].items() if key != "setup"}
    return replace(find_setup(SETS[data]["setup"]), **shorter)


def every(sets: Sequence[str]) -> Iterator[Run]:
    """Yield all runs; one seed of everything comes before the next."""
    for seed in SEEDS:
        for data in sets:
            for method in METHODS:
                for wire in WIRES:
                    yield Run(data=data, method=method, wire=wire, seed=seed)


def kind(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return what computed a run: runs of other kinds differ in more than the wire."""
    return record["hardware"]["instructions"], record["budget"]["precision"]


def make(run: Run, data: Path) -> int:
    """Make one run in this process; return the exit code."""
    job = run.job(data)
    here = hardware()["instructions"], job.budget["precision"]
    for wire in WIRES:
        beside = replace(run, wire=wire).read()
        if beside is not None and kind(beside) != here:
            print(f"{run}: made here with {here}, its companion {wire} with {kind(beside)}", file=sys.stderr)
            return REFUSED
    print(run_job(job), flush=True)
    return 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method over a wire beside the same one in bf16.

    Attributes:
        runs: by seed. score: mean over seeds, sites and their cases; base: of the network before training.
        found: score minus that in bf16, over the seeds that both have; None of bf16 itself, or where nothing pairs.
        margin, p, words: of the test that they are equal. up, down: bytes of a round, mean of the sites.
    """

    runs: Mapping[int, Mapping[str, Any]]
    score: float
    base: float
    found: Estimate | None
    margin: float | None
    p: float | None
    words: str
    up: float
    down: float


def rows(data: str, method: str) -> dict[str, Row]:
    """Return the rows of the wires that have runs."""
    read = {
        wire: {seed: found for seed in SEEDS if (found := Run(data=data, method=method, wire=wire, seed=seed).read())}
        for wire in WIRES
    }
    rules, plain = protocol(), read[PLAIN]
    found: dict[str, Row] = {}
    for wire, runs in read.items():
        if not runs:
            continue
        pairs = {seed: (run, plain[seed]) for seed, run in runs.items() if seed in plain}
        for run, beside in pairs.values():
            if kind(run) != kind(beside):
                raise ComparisonError(f"{data}, {method}, {wire}: runs of two kinds of processor; make them again")
        difference, margin, p, words = None, None, None, ""
        if wire != PLAIN and pairs:
            difference = minus(pairs)
            gain = statistics.fmean(level(one, PERSONAL) - level(one, BASE) for _, one in pairs.values())
            margin, p = same(difference, gain, rules)
            words = (
                same_in_words(margin, p, rules) if len(pairs) == len(SEEDS) else f"{len(pairs)} of {len(SEEDS)} seeds"
            )
        found[wire] = Row(
            runs=runs,
            score=statistics.fmean(level(run, PERSONAL) for run in runs.values()),
            base=statistics.fmean(level(run, BASE) for run in runs.values()),
            found=difference,
            margin=margin,
            p=p,
            words=words,
            up=statistics.fmean(a_round(run, "up") for run in runs.values()),
            down=statistics.fmean(a_round(run, "down") for run in runs.values()),
        )
    return found


def level(run: Mapping[str, Any], model: str) -> float:
    """Return a model's score, every site counting alike."""
    return statistics.fmean(site["models"][model]["score"] for site in run["sites"].values())


def a_round(run: Mapping[str, Any], way: str) -> float:
    """Return the bytes of a round, mean of the sites: without the seeded values, which travel once and in bf16."""
    sites = run["sites"].values()
    once = {"up": "begin_bytes_up"}.get(way)
    return (
        statistics.fmean(site[f"bytes_{way}"] - (site[once] if once else 0) for site in sites) / run["budget"]["rounds"]
    )


def minus(pairs: Mapping[int, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Estimate:
    """Return the personal model's score minus that of the other run of its seed, paired by case."""
    seeds, patients = [], dict[str, Mapping[str, str]]()
    for run, beside in pairs.values():
        table: dict[str, dict[str, float]] = {}
        for site in sorted(run["sites"]):
            ours, theirs = (case_values(one, site, PERSONAL) or {} for one in (run, beside))
            table[site] = {case: value - theirs[case] for case, value in ours.items()}
            patients[site] = run["sites"][site]["patients"]
        seeds.append(Seed(sites=table))
    return estimate(seeds, patients)


def page() -> str:
    """Return the page, every number from the runs' files."""
    rules = protocol()
    parts = [
        "# Dice beside bytes: whole numbers on the wire",
        "Values travel in bf16, or in int8 or int4 in blocks of 64 with a scale each (`sitelora job --help`: `--up`, "
        "`--down`). The row int8 is int8 both ways; int4 is int4 up and int8 down. The score is test Dice of the model "
        "that a site is served, mean of three seeds and of sites that count alike; the difference to bf16 is paired by "
        "case, with its 95 % interval over patients and seeds. **Equal** is tested by two one-sided tests: within "
        f"{rules.margin:g}, or {rules.margin_share:g} of what bf16 gains over the base where that is less. Bytes are "
        "of one site's round, without the seeded values that travel once. Rate, data and length are the same in every "
        "row, the lengths shorter than the setups': nothing was chosen here. Made by\n\n"
        f"```sh\n{COMMAND}\n```",
    ]
    for data in SETS:
        setup, table, every_run = setup_of(data), list[list[str]](), list[Mapping[str, Any]]()
        for method in METHODS:
            found = rows(data, method)
            for wire, row in found.items():
                table.append([method, wire, *_cells(row, found.get(PLAIN))])
                every_run += row.runs.values()
        parts += [f"## {setup.title}", _length(setup, every_run) if every_run else "No run yet.", markdown(HEAD, table)]
    return "\n\n".join(part for part in parts if part) + "\n"


HEAD = ("method", "wire", "seeds", "base", "Dice", "minus bf16", "margin", "p", "equal?", "up a round", "down a round")


def _cells(row: Row, plain: Row | None) -> list[str]:
    interval = row.found.interval() if row.found else None
    reach = f" [{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else ""

    def size(ours: float, theirs: float | None) -> str:
        fewer = f", {theirs / ours:.2f} times fewer" if theirs and ours and theirs != ours else ""
        return f"{bytes_text(round(ours))}{fewer}"

    return [
        str(len(row.runs)),
        f"{row.base:.4f}",
        f"{row.score:.4f}",
        f"{row.found.mean:+.4f}{reach}" if row.found else "",
        f"{row.margin:.4f}" if row.margin is not None else "",
        f"{row.p:.2g}" if row.p is not None else "",
        row.words,
        size(row.up, plain.up if plain else None),
        size(row.down, plain.down if plain else None),
    ]


def _length(setup: Setup, runs: Sequence[Mapping[str, Any]]) -> str:
    made = sorted({f"{run['hardware']['processor']} ({run['hardware']['instructions']})" for run in runs})
    commits = sorted({str(run["commit"]) for run in runs})
    steps = sorted({count for run in runs for count in run["budget"]["steps"].values()})
    seconds = [run["budget"]["seconds"] for run in runs]
    return (
        f"{len(setup.sites)} sites, {setup.rounds} rounds, {' or '.join(map(str, steps))} steps a site, learning rate "
        f"{RATE:g}, {runs[0]['budget']['precision']}; {len(runs)} runs of {min(seconds):.0f} to {max(seconds):.0f} s "
        f"on {', '.join(made)}, torch {runs[0]['versions']['torch']}, commit {', '.join(commits)}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="root of the site folders")
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated; all by default")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further run after so many")
    parser.add_argument("--at-a-time", type=int, default=1, help="runs that share the machine")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return make(Run(**json.loads(args.one)), args.data)
    failed = 0
    if not args.page:
        if args.data is None:
            parser.error("--data is needed, or --page")
        chosen = args.sets.split(",")

        def start(run: Run) -> subprocess.Popen[bytes]:
            words = ["--data", str(args.data), "--one", json.dumps(vars(run))]
            return one_thread([__file__, *words])

        failed = keep_running(
            lambda: (run for run in every(chosen) if run.read() is None),
            start,
            minutes=args.minutes,
            at_a_time=args.at_a_time,
            tell=lambda line: print(line, flush=True),
        )
    PAGE.write_text(page(), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
