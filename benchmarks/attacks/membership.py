"""Who can tell from a model whether a patient was trained on: membership inference on a small federation.

    python benchmarks/attacks/membership.py --out benchmarks/results/attacks/membership.json
    python benchmarks/attacks/membership.py --out benchmarks/results/attacks/membership.json --only-page

Members are the training cases of a site, non-members fresh patients of the same site's scanner and annotators (its test
cases, which nothing was chosen on). The attacker has image and mask of the patient in question. Two attacks: the loss
itself (Yeom et al. 2018, arXiv:1709.01604), and the loss under a reference minus it (Watson et al. 2022,
arXiv:2111.08440) with the model that the site received as reference, which the server has and needs no shadow model
for. Two targets: the averaged model of the last round, and each site's own model, which the server makes from its
update. Pairs are compared within a site; intervals are bootstrapped over patients. Sizes, noise and the rate are our
choice: few cases and many epochs, which is what helps the attacker.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_hand import begin, member, server
from rows import PAGES, command_of, fill, parser_of, read, so_far

from sitelora.comparison.tables import markdown
from sitelora.data.phantom.make import PhantomSize, make_phantom
from sitelora.federation.build_network import load_values
from sitelora.federation.job import Job
from sitelora.federation.site import Site
from sitelora.settings import name_method, with_method
from sitelora.sharing.codecs import codecs_down, codecs_up, decode

SITES = ("site-1", "site-2", "site-3")
BUNDLE, METHOD = "iat_segmentation", "fedavg_lora"
SIZE = PhantomSize(training=6, validation=1, test=12, matrix=64, slices=6)
EPOCHS, ROUNDS = 6, 4
VALUES: dict[str, Any] = {
    "image_size": 64,
    "epochs": EPOCHS,
    "batch_size": 1,
    "slices": 3,
    "precision": "fp32",
    "learning_rate": 0.004,
    "validate_every": 100,
    "method#rank": 8,
    "method#scale": 4.0,
}
SEED = 0
FALSE_ALARMS = 0.1
"""Share of non-members that may be called members where the share of found members is told."""
DRAWS = 2000


@dataclass(frozen=True)
class Run:
    """One row: clip norm and noise as a multiple of it (None and 0: the bf16 wire alone), cases, epochs and rounds."""

    name: str
    clip_norm: float | None = None
    noise_std: float = 0.0
    training: int = SIZE.training
    epochs: int = EPOCHS
    rounds: int = ROUNDS


RUNS = [
    Run("bf16"),
    Run("clip 1, noise 0.0005", 1.0, 0.0005),
    Run("control: one case, 80 epochs", training=1, epochs=80, rounds=1),
]
"""The control shows that the attacks find what a model surely remembers."""

Scores = Mapping[str, Sequence[float]]
"""By site: larger is more like a member."""


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """Return how often a member scores above a non-member, ties counting half."""
    one, other = np.asarray(members)[:, None], np.asarray(others)[None]
    return float(((one > other) + 0.5 * (one == other)).mean())


def found(members: Sequence[float], others: Sequence[float], false_alarms: float = FALSE_ALARMS) -> float:
    """Return the share of members above a threshold that at most so many non-members pass."""
    allowed = int(false_alarms * len(others))
    threshold = sorted(others, reverse=True)[allowed]
    return float((np.asarray(members) > threshold).mean())


def judged(members: Scores, others: Scores) -> dict[str, Any]:
    """Return AUC with its 95 % interval and the share of members found at few false alarms; means over sites."""
    draws = np.random.default_rng(SEED)

    def mean_auc(pick: bool) -> float:
        values = []
        for site in members:
            one, other = np.asarray(members[site]), np.asarray(others[site])
            if pick:
                one, other = draws.choice(one, len(one)), draws.choice(other, len(other))
            values.append(auc(one, other))
        return float(np.mean(values))

    spread = [mean_auc(True) for _ in range(DRAWS)]
    low, high = np.quantile(spread, [0.025, 0.975])
    share = float(np.mean([found(members[site], others[site]) for site in members]))
    return {
        "auc": round(mean_auc(False), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "found": round(share, 3),
    }


class Losses:
    """The bundle's loss of a site's cases under any values of its trained tensors."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.loss = site._parser.get_parsed_content("loss")
        prepare = site._parser.get_parsed_content("validate#preprocessing")
        self.cases = {
            kind: [prepare({"image": case["image"], "label": case["label"]}) for case in site.folder.cases(kind)]
            for kind in ("training", "test")
        }

    def __call__(self, values: Mapping[str, torch.Tensor], kind: str) -> list[float]:
        """Return the loss of every case of ``training`` or ``test``."""
        network = self.site.network
        load_values(network, {**self.site.local_round.initial, **values})
        network.eval()
        with torch.no_grad():
            return [float(self.loss(network(c["image"][None]), c["label"][None])) for c in self.cases[kind]]


def run_one(run: Run, data: Path, home: Path) -> dict[str, Any]:
    """Run one federation and attack what the server has of it."""
    began = time.process_time()
    name_method(METHOD)
    job = Job(
        federation="membership",
        uid="u",
        bundle=BUNDLE,
        dataset="prostate",
        sites=SITES,
        rounds=run.rounds,
        settings=with_method(BUNDLE, {**VALUES, "epochs": run.epochs}, METHOD, {}),
        clip_norm=run.clip_norm,
        noise_std=run.noise_std,
    )
    coordinator = server(job, home)
    members = {site: member(job, site, data=data, home=home) for site in SITES}
    begin(coordinator, members)
    received: dict[str, dict[str, torch.Tensor]] = {}
    own: dict[str, dict[str, torch.Tensor]] = {}
    for number in range(run.rounds):
        for site, one in members.items():
            message = coordinator.message_for(site)
            answer = one.train(number, message)
            coordinator.receive(site, answer.tensors, answer.report)
            ranks, shared = one.method.ranks, one.border.exit.shared
            received[site] = decode(message, codecs_down(ranks, job.wire, site), shared, sender="server")
            update = decode(answer.tensors, codecs_up(ranks, job.wire, site), shared, sender=site)
            own[site] = {name: value + update[name] for name, value in received[site].items()}
        coordinator.close_round(0.0)
    first = members[SITES[0]]
    codecs = codecs_down(first.method.ranks, job.wire, SITES[0])
    averaged = decode(coordinator.message_for(SITES[0]), codecs, first.border.exit.shared, sender="server")
    losses = {site: Losses(one) for site, one in members.items()}
    initial = {site: one.local_round.initial for site, one in members.items()}
    row: dict[str, Any] = {}
    targets = {"averaged": (dict.fromkeys(SITES, averaged), initial), "own": (own, received)}
    for target, (values, reference) in targets.items():
        now = {k: {s: losses[s](values[s], k) for s in SITES} for k in ("training", "test")}
        before = {k: {s: losses[s](reference[s], k) for s in SITES} for k in ("training", "test")}
        plain = {k: {s: [-x for x in now[k][s]] for s in SITES} for k in now}
        gained = {k: {s: [b - n for b, n in zip(before[k][s], now[k][s], strict=True)] for s in SITES} for k in now}
        row[target] = {
            "loss": judged(plain["training"], plain["test"]),
            "calibrated": judged(gained["training"], gained["test"]),
            "mean_loss": {k: round(float(np.mean([x for s in SITES for x in now[k][s]])), 3) for k in now},
        }
    return {**row, "cpu_seconds": round(time.process_time() - began, 1)}


PAGE, COMMAND = PAGES / "membership.md", command_of("membership")
HEAD = """# Who can tell whether a patient was trained on

Membership inference on the drawn prostate phantom: {sites} sites, FedIT, {members} training cases a site, each seen
{epochs} times in each of {rounds} rounds, against {others} fresh patients of the same site. Few cases and many epochs
help the attacker, who has image and mask of the patient in question. "Loss" calls a member what the model fits well;
"calibrated" what it fits better than before: the averaged model against the initial one, a site's own against what it
received in the last round. One seed; pairs are compared within a site, intervals are 95 % over patients.

AUC 0.5 is guessing; "weak" marks an interval that holds it. "Found" is the share of members that are found while at
most {alarms:.0%} of the others are called members by mistake: {alarms:.0%} is guessing.

"""
TAIL = """
**What that says.** {verdict}
{intervals} intervals were looked at: one that only just leaves 0.5 out is what chance
gives. An attack with shadow models, more patients or the updates of all rounds would find more than these two; where a
row says weak it says that of these two alone. The control shows that they find what a model surely remembers: a site
with one case stands bare. Noise is a multiple of the clip norm (1); its price is the loss on fresh patients beside it.
It follows from a secret that every run draws anew, so its row differs a little when it is made again.

Written from `benchmarks/results/attacks/membership.json` by

```sh
{command} --only-page
```

Made on {processor}.
"""


def verdict(rows: Mapping[str, Any]) -> str:
    """Say what the rows say."""
    told = [
        f"{name}, {'averaged model' if target == 'averaged' else 'own model'}"
        for name, row in rows.items()
        for target in ("averaged", "own")
        if max(row[target][attack]["interval"][0] for attack in ("loss", "calibrated")) > 0.5
    ]
    if not told:
        return "Both attacks are weak here: no interval is above guessing."
    return f"Members are told from others (an interval above 0.5) here:\n{'; '.join(told)}."


def page(table: Mapping[str, Any]) -> str:
    """Return the page of a table."""
    columns = ("what leaves", "model", "AUC, loss", "AUC, calibrated", "found (both)", "loss of members", "of others")
    lines = []
    for run in RUNS:
        for target, words in (("averaged", "averaged"), ("own", "a site's own")):
            if (row := table["rows"].get(run.name)) is None:
                continue
            one = row[target]
            cells = [
                f"{one[attack]['auc']:.2f} [{one[attack]['interval'][0]:.2f}, {one[attack]['interval'][1]:.2f}]"
                + ("" if one[attack]["interval"][0] > 0.5 else " weak")
                for attack in ("loss", "calibrated")
            ]
            shares = " / ".join(f"{one[attack]['found']:.0%}" for attack in ("loss", "calibrated"))
            trained, fresh = (one["mean_loss"][kind] for kind in ("training", "test"))
            lines.append((run.name, words, *cells, shares, f"{trained:.2f}", f"{fresh:.2f}"))
    asked = table["asked"]
    head = HEAD.format(
        sites=len(asked["sites"]),
        members=asked["members"],
        others=asked["others"],
        epochs=asked["settings"]["epochs"],
        rounds=asked["rounds"],
        alarms=asked["false_alarms"],
    )
    tail = TAIL.format(
        verdict=verdict(table["rows"]),
        intervals=4 * len(table["rows"]),
        command=COMMAND,
        processor=table["hardware"]["processor"],
    )
    return head + markdown(columns, lines) + "\n" + tail


def main(arguments: list[str] | None = None) -> int:
    """Run what is not there yet and write the table."""
    parser = parser_of(__doc__)
    args = parser.parse_args(arguments)
    if args.only_page:
        PAGE.write_text(page(read(args.out)), encoding="utf-8")
        return 0
    asked = {
        "rounds": ROUNDS,
        "method": METHOD,
        "settings": VALUES,
        "sites": list(SITES),
        "members": SIZE.training,
        "others": SIZE.test,
        "false_alarms": FALSE_ALARMS,
    }
    table = so_far(parser, args.out, asked)
    with tempfile.TemporaryDirectory() as folder:

        def row(run: Run, number: int) -> dict[str, Any]:
            data = Path(folder) / f"data{number}"
            make_phantom(data, size=replace(SIZE, training=run.training), sites=SITES, seed=SEED)
            return run_one(run, data, Path(folder) / f"home{number}")

        runs = [asdict(one) for one in RUNS]
        fill(args, table, RUNS, row, command=COMMAND, asked=asked, seed=SEED, runs=runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
