"""Every server rule, and what the record tells of it, on SAM ViT-B's 38 LoRA pairs from many sites.

    git worktree add ../before COMMIT
    python benchmarks/server_rules.py --before ../before --out benchmarks/results/server_rules.json

Sites moved a tenth away from a common start ("agreeing", what a round gives), or share nothing ("independent", the
worst case: no singular value stands out). With ``--before`` another checkout does the same rule in turn, in a process
of its own beside this one's, so that other work on the machine falls on both; once where that takes long,
and not at all where it takes minutes. Processor seconds are kept beside wall-clock, because only they mean something on
a machine that does other work; the best of the repeats counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from aggregation import processor, shapes

from sitelora.comparison.run import commit
from sitelora.server.aggregation import Aggregation
from sitelora.server.aggregation_error import round_numbers
from sitelora.server.mean import WeightedMean
from sitelora.server.product import ProductMeanSVD
from sitelora.server.residual import MeanWithResidual
from sitelora.server.robust import with_aggregation
from sitelora.server.similarity import SimilarityGuided
from sitelora.server.sparsity import SparsityWeightedMean
from sitelora.server.stack import Stacking
from sitelora.server.types import ServerRule, Update


def robust(name: str, rule: ServerRule) -> ServerRule:
    return with_aggregation(rule, Aggregation(rule=name), lambda _, ones: ones)


RULES: dict[str, Callable[[], ServerRule]] = {
    "mean": WeightedMean,
    "product": ProductMeanSVD,
    "fedex": MeanWithResidual,
    "sgca": SimilarityGuided,
    "sgca_global": lambda: SimilarityGuided(mode="global"),
    "stack": Stacking,
    "sparsity": SparsityWeightedMean,
    "median": lambda: robust("coordinate_median", WeightedMean()),
    "median_then_product": lambda: robust("coordinate_median", ProductMeanSVD()),
    "trimmed": lambda: robust("trimmed_mean", WeightedMean()),
    "norm_capped": lambda: robust("norm_capped_mean", WeightedMean()),
}
"""``product`` is the rule of FLAP-SAM, FlexLoRA and Med-DualLoRA, ``sgca`` FedSCA's, ``stack`` FLoRA's, ``sparsity``
HetLoRA's."""
SPREADS = {"agreeing": 0.1, "independent": None}
SETTINGS: tuple[tuple[int, int, str, bool], ...] = (
    (6, 32, "agreeing", True),
    (24, 32, "agreeing", True),
    (24, 32, "independent", False),
    (100, 8, "agreeing", True),
    (100, 32, "agreeing", False),
)
"""Sites, rank, spread, and whether the other checkout does it too."""
TARGETS = {6: 2.0, 24: 2.0, 100: 10.0}


def updates(sites: int, rank: int, spread: float | None) -> dict[str, Update]:
    """Gaussian factors of every site, of 5 to 34 cases."""
    sizes = shapes(rank)
    generator = torch.Generator().manual_seed(0)
    start = {name: torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for name, shape in sizes.items()}
    found = {}
    for number in range(sites):
        own = {name: torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for name, shape in sizes.items()}
        values = own if spread is None else {name: start[name] + spread * own[name] for name in own}
        found[f"site-{number + 1:03d}"] = Update(values=values, received=start, cases=5 + 7 * number % 30)
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    started, used = time.perf_counter(), time.process_time()
    made = work()
    took = {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - used}
    return made, {name: round(value, 4) for name, value in took.items()}


def serve(threads: int) -> None:
    """Answer one JSON a line: a setting first, then rules."""
    torch.set_num_threads(threads)
    sites: dict[str, Update] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "sites" in asked:
            sites = updates(asked["sites"], asked["rank"], SPREADS[asked["spread"]])
            print(json.dumps({"ready": True}), flush=True)
            continue
        rule = RULES[asked["rule"]]()
        (messages, _), took = timed(partial(rule, sites, {}, 0))
        (numbers, _), bookkeeping = timed(partial(round_numbers, rule, sites, messages))
        print(json.dumps({"rule": took, "bookkeeping": bookkeeping, "numbers": numbers}), flush=True)


class Worker:
    """A process with one version of the package."""

    def __init__(self, package: Path, threads: int) -> None:
        here = Path(__file__).resolve()
        path = os.pathsep.join([str(package), str(here.parent)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, str(here), "--serve", "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def best(answers: list[dict[str, Any]], what: str) -> dict[str, float]:
    return {name: min(answer[what][name] for answer in answers) for name in answers[0][what]}


def measure(workers: dict[str, Worker], rules: list[str], repeats: int) -> dict[str, Any]:
    """Every rule by every version in turn."""
    rows: dict[str, Any] = {}
    for rule in rules:
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for number in range(repeats):
            for name, worker in workers.items():
                if name == "before" and number and answers[name][0]["bookkeeping"]["processor_seconds"] > 2:
                    continue
                answers[name].append(worker.ask({"rule": rule}))
        rows[rule] = {
            name: {
                "rule": best(given, "rule"),
                "bookkeeping": best(given, "bookkeeping"),
                "numbers": given[-1]["numbers"],
                "repeats": len(given),
            }
            for name, given in answers.items()
        }
        print(rule, json.dumps(rows[rule]), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--only", type=int, help="of the settings those with this many sites")
    parser.add_argument("--serve", action="store_true", help="one worker; this script starts it")
    args = parser.parse_args()
    if args.serve:
        serve(args.threads)
        return
    root = Path(__file__).resolve().parent.parent
    checkouts = {"after": root, **({"before": args.before} if args.before else {})}
    result: dict[str, Any] = {
        "what": "server rules on the 38 LoRA pairs of SAM ViT-B, and the record's numbers of the round; the best of "
        "the repeats",
        "command": f"python benchmarks/server_rules.py --before CHECKOUT --threads {args.threads} --out FILE",
        "seed": 0,
        "threads": args.threads,
        "commits": {name: commit(path) for name, path in checkouts.items()},
        "hardware": {"processor": processor(), "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "settings": [],
    }
    for sites, rank, spread, both in SETTINGS:
        if args.only not in (None, sites):
            continue
        told = {"sites": sites, "rank": rank, "spread": spread}
        print(told, file=sys.stderr, flush=True)
        versions = [name for name in checkouts if both or name == "after"]
        workers = {name: Worker(checkouts[name] / "custom", args.threads) for name in versions}
        for worker in workers.values():
            worker.ask(told)
        rules = measure(workers, args.rules, args.repeats)
        result["settings"].append({**told, "target_seconds": TARGETS[sites], "rules": rules})
        for worker in workers.values():
            worker.close()
        if args.out:  # after every setting: the whole takes a while
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
