"""One site of six that lies: Dice of the other five with the mean, with the bounds, and with each robust rule.

    python benchmarks/attacks/poisoned_site.py --out benchmarks/results/attacks/poisoned_site.json
    python benchmarks/attacks/poisoned_site.py --out benchmarks/results/attacks/poisoned_site.json --only-page

The drawn prostate phantom, FedIT (one model for all sites, which is what a liar spoils) at 64 px, six sites, one seed.
Two lies of site-2: its masks are inverted before it trains, as a careless export would do; or its updates leave with
flipped signs and ten times as long. Every run begins at the same values and sees the same batches. Scores are of the
global model on the test cases of the five honest sites. A row is written as soon as it is there, and kept when the
command is run again.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from by_hand import begin, member, server
from rows import PAGES, command_of, fill, parser_of, read, so_far

from sitelora.data.phantom.make import PhantomSize, make_phantom
from sitelora.federation.bounds import Bounds
from sitelora.federation.job import Job
from sitelora.federation.site_settings import Answer
from sitelora.server.aggregation import RULES, Aggregation
from sitelora.settings import name_method, with_method

SITES = tuple(f"site-{number}" for number in range(1, 7))
LIAR = "site-2"
LIES = ("none", "inverted_masks", "flipped_signs_x10")
OFF = Bounds(largest_norm=None, largest_ratio=None, smallest_ratio=None, largest_share=None)
BUNDLE, METHOD = "iat_segmentation", "fedavg_lora"
SIZE = PhantomSize(training=4, validation=1, test=3, matrix=96, slices=12)
VALUES: dict[str, Any] = {"image_size": 64, "epochs": 2, "batch_size": 2, "learning_rate": 0.002, "precision": "fp32"}


@dataclass(frozen=True)
class Run:
    """One row: which lie, which rule, and whether the server's bounds are on."""

    lie: str
    rule: str
    bounds: bool

    @property
    def name(self) -> str:
        return f"{self.lie}, {self.rule}, bounds {'on' if self.bounds else 'off'}"


RUNS = [Run(lie, rule, False) for lie in LIES for rule in RULES] + [Run(lie, "mean", True) for lie in LIES]


def inverted(data: Path, target: Path) -> Path:
    """Copy the data with the liar's training and validation masks turned round: prostate where there is none."""
    shutil.copytree(data, target)
    folder = target / "prostate" / LIAR
    listed = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for case in (*listed["training"], *listed["validation"]):
        path = folder / case["label"]
        image = nibabel.load(path)
        mask = (np.asarray(image.dataobj) == 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), path)
    return target


def flipped(answer: Answer) -> Answer:
    return Answer({name: tensor * -10 for name, tensor in answer.tensors.items()}, answer.report)


def run_one(run: Run, data: Mapping[str, Path], home: Path, rounds: int) -> dict[str, Any]:
    """Run one federation to its end and return its row."""
    began = time.process_time()
    name_method(METHOD)
    values = with_method(BUNDLE, {**VALUES, "schedule_rounds": rounds}, METHOD, {})
    job = Job(
        federation="poisoned",
        uid="u",
        bundle=BUNDLE,
        dataset="prostate",
        sites=SITES,
        rounds=rounds,
        min_sites=4,
        settings=values,
        aggregation=Aggregation(rule=run.rule),
        bounds=Bounds() if run.bounds else OFF,
    )
    coordinator = server(job, home)
    root = data["inverted" if run.lie == "inverted_masks" else "honest"]
    members = {site: member(job, site, data=root, home=home) for site in SITES}
    begin(coordinator, members)
    for number in range(rounds):
        for site, one in members.items():
            answer = one.train(number, coordinator.message_for(site))
            if site == LIAR and run.lie == "flipped_signs_x10":
                answer = flipped(answer)
            coordinator.receive(site, answer.tensors, answer.report)
        coordinator.close_round(0.0)
    dice = {}
    for site in SITES:
        if site != LIAR:
            scores = coordinator.read_scores(site, members[site].evaluate(coordinator.evaluation_packet(site)).report)
            dice[site] = None if scores is None else scores["global"].score
    rejected = sum(each.sites[LIAR].status == "rejected" for each in coordinator.record.rounds.values())
    known = [score for score in dice.values() if score is not None]
    return {
        "dice": statistics.fmean(known) if known else None,
        "dice_by_site": dice,
        "rounds_in_which_the_liar_was_rejected": rejected,
        "norms": [dict(each.details.further["norms"]) for each in coordinator.record.rounds.values()],
        "cpu_seconds": round(time.process_time() - began, 1),
    }


PAGE = PAGES / "poisoned_site.md"
HEAD = """# One site of six that lies

Dice of the global model on the test cases of the five honest sites: the drawn prostate phantom, FedIT at 64 px, four
rounds, one seed. The liar's training masks are inverted, or its updates leave with flipped signs and ten times as long.
One seed tells a spoilt model from a good one, and no more: differences of a hundredth are none. Written from
`benchmarks/results/attacks/poisoned_site.json` by

```sh
python benchmarks/attacks/poisoned_site.py --out benchmarks/results/attacks/poisoned_site.json --only-page
```

"""


def page(table: Mapping[str, Any]) -> str:
    """Return the page of a table."""
    lines = ["| server | " + " | ".join(lie.replace("_", " ") for lie in LIES) + " |", "| --- " * (len(LIES) + 1) + "|"]
    for rule, bounds in [*((rule, False) for rule in RULES), ("mean", True)]:
        cells = []
        for lie in LIES:
            row = table["rows"].get(Run(lie, rule, bounds).name)
            out = f" (left out in {row['rounds_in_which_the_liar_was_rejected']} rounds)" if row and bounds else ""
            cells.append("" if row is None or row["dice"] is None else f"{row['dice']:.3f}{out}")
        lines.append(f"| {rule.replace('_', ' ')}, bounds {'on' if bounds else 'off'} | " + " | ".join(cells) + " |")
    return HEAD + "\n".join([*lines, "", f"Made on {table['hardware']['processor']}.", ""])


def main(arguments: list[str] | None = None) -> int:
    """Run what is not there yet and write the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args(arguments)
    if args.only_page:
        PAGE.write_text(page(read(args.out)), encoding="utf-8")
        return 0
    asked = {"rounds": args.rounds, "method": METHOD, "settings": VALUES, "sites": len(SITES), "liar": LIAR}
    table = so_far(parser, args.out, asked)
    with tempfile.TemporaryDirectory() as folder:
        honest = Path(folder) / "data"
        make_phantom(honest, size=SIZE, sites=SITES)
        data = {"honest": honest, "inverted": inverted(honest, Path(folder) / "inverted")}

        def row(run: Run, number: int) -> dict[str, Any]:
            return run_one(run, data, Path(folder) / f"home{number}", args.rounds)

        command = command_of("poisoned_site")
        fill(args, table, RUNS, row, show=lambda made: f"Dice {made['dice']}", command=command, asked=asked, seed=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
