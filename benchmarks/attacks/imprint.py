"""What a malicious base and message make of an adapter's gradient: the site's picture, by linear algebra alone.

    python benchmarks/attacks/imprint.py --out benchmarks/results/attacks/imprint.json
    python benchmarks/attacks/imprint.py --out benchmarks/results/attacks/imprint.json --only-page

The base is one that a dishonest server hands out as a checkpoint. Two were made: one for methods that share A
(``imprint_a.py``, with initial values of the server's own in its message) and one for methods whose A is known and
whose B is shared (``imprint_b.py``, with an honest message). No mask, no search. ``refused_base.py`` runs what stands
between a site and such a base. Where noise is added the server asks for larger gradients (``size``) and reads more
cautiously (``cautious``); all settings are our choice, made on another picture.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imprint_a
import imprint_b
import torch
from imprint_a import EXACT, SMALL
from imprint_b import SMOOTH
from inversion import BETTER, DECOYS, DRAWN, OTHERS, finds, gain, judged, naive
from one_step import ONE, SIDE, SITE, attackers_network, moved, one_step, other_pictures
from refused_base import SITES as BASE_SITES
from refused_base import checks
from rows import PAGES, command_of, fill, parser_of, read, so_far
from torch import Tensor, nn

from sitelora.comparison.tables import markdown
from sitelora.data.phantom.make import make_phantom
from sitelora.sharing.patterns import clean_name
from sitelora.sharing.wire import WireFormat

SEED = 2
LARGE = 1e-8
"""Median gradient where noise is added: about AdamW's eps, so that a step is half as long as it can be."""
CUT, BLUR = 0.1, 3.0
"""There: singular values below this share of the largest count as none; weight of neighbours' difference."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row: whose update, on the base made for which factor (none: the honest one), and what protects it."""

    name: str
    method: str = "fedavg_lora"
    base: str = "A"
    malicious_message: bool = True
    cautious: bool = False
    wire: WireFormat = field(default_factory=lambda: WireFormat(dtype="float32"))


def clipped(noise: float, on: str = "one") -> WireFormat:
    return WireFormat(clip_norm=1.0, noise_std=noise, noise_on=on)


RUNS = [
    Run(name="fedavg_lora"),
    Run(name="fedavg_lora, bf16", wire=WireFormat()),
    Run(name="fedavg_lora, bf16, clip 1", wire=clipped(0)),
    Run(name="fedavg_lora, honest message", base="B", malicious_message=False, wire=WireFormat()),
    Run(name="fedavg_lora, honest base", base="", wire=WireFormat()),
    Run(name="iat", method="iat", base="B", malicious_message=False),
    Run(name="iat, bf16", method="iat", base="B", malicious_message=False, wire=WireFormat()),
    Run(name="ffa_lora, bf16", method="ffa_lora", base="B", malicious_message=False, wire=WireFormat()),
    Run(name="fedavg_lora, noise 0.0005 on both", wire=clipped(0.0005, "both"), cautious=True),
    Run(
        name="fedavg_lora, noise 0.0005 on one", base="B", malicious_message=False, wire=clipped(0.0005), cautious=True
    ),
    Run(name="iat, noise 0.0005", method="iat", base="B", malicious_message=False, wire=clipped(0.0005), cautious=True),
    Run(name="fedavg_lora, noise 0.01 on both", wire=clipped(0.01, "both"), cautious=True),
]


def trained_or_frozen(network: nn.Module) -> dict[str, Tensor]:
    return {clean_name(name): value.detach() for name, value in network.named_parameters()}


def attack(run: Run, *, data: Path, home: Path, others: Tensor, decoys: Tensor) -> dict[str, Any]:
    """Run one row."""
    began = time.process_time()
    mean, base = others.mean(0), "embedded"
    if run.base:
        base = str(home / "handed_out.pth")
        home.mkdir(parents=True)
        torch.save(imprint_a.malicious_state(), base)
    size = LARGE if run.cautious else SMALL
    honest = one_step(run.method, data=data, home=home / "honest", wire=run.wire)
    method, loss, message = honest.site.method, honest.site._parser.get_parsed_content("loss"), None
    if run.base == "B":
        imprint_b.sized_base(method, honest.received, mean, loss, base, size=size)
    if run.malicious_message:
        message = imprint_a.malicious_message(method, honest.received, base, mean, loss, size=size)
    sent = one_step(run.method, data=data, home=home / "used", base=base, wire=run.wire, sent=message)
    gradients = imprint_a.gradients_from(moved(sent))
    if run.base == "B":
        network = attackers_network(method, sent.received, base)
        factors = {name: value for name, value in trained_or_frozen(network).items() if name.endswith(".A")}
        drawn = imprint_b.read_picture(gradients, factors, smooth=BLUR if run.cautious else SMOOTH)
    else:
        drawn = imprint_a.read_picture(gradients, cut=CUT if run.cautious else EXACT)
    return {
        "method": run.method,
        "base": run.base,
        "message": "malicious" if run.malicious_message else "honest",
        "size": size,
        "wire": {
            "dtype": run.wire.dtype,
            "clip_norm": run.wire.clip_norm,
            "noise_std": run.wire.noise_std,
            "noise_on": run.wire.noise_on,
        },
        "attack": None if drawn is None else judged(drawn, sent.picture, decoys),
        "naive": {name: judged(one, sent.picture, decoys) for name, one in naive(sent, others).items()},
        "cpu_seconds": round(time.process_time() - began, 1),
    }


PAGE, COMMAND = PAGES / "imprint.md", command_of("imprint")
HEAD = """# What a malicious base draws

A dishonest server hands out a base that lets pixels and places pass to the adapters. From one step on one slice
({side} px, `sam_tiny`, the phantom; one training case) it **computes** the site's picture: no mask, no search. One base
is made for methods that share A: the server also sends values of its own, every A 0 and every B so small that AdamW's
first step is proportional to the gradient. The other is made for methods that share B and whose A everybody knows: its
message is honest. An attack is worth something where it beats what anyone would draw without the update:
{naive}.
"Place" is where the true picture stands among {pictures} of the same site by likeness: 1 is found. One picture, one
seed.

"""
MIDDLE = """
Noise is a multiple of the clip norm (1): 0.0005 is the floor of the policy's level `strict`, which guarantees nothing.
Where a row draws little, it says so of these two bases and this reading alone: an attack made for that protection would
draw more. On the honest base the reading looks for what is not there, which is no attack on it. Not tried: bottleneck
adapters (FedSCA), larger pictures, more steps or cases, local factors that have been trained in rounds before.
Noise follows from a secret that every run draws anew, so rows with noise differ a little when they are made again.

## What stands between a site and such a base

Each was run, with this very base:

| Tried | What happened |
| --- | --- |
"""
TAIL = """
**So**: the hashes keep a base from being slipped to one site while the server is honest, and from being changed in a
run. They do not say whether the one base of all sites is honest, and a dishonest server need not compare them: take the
base from its publisher, compare its sha256 with what the publisher says, and let each site list it
(`bases` in the policy of its `local/sitelora.json`; the level `strict` allows the embedded one alone). A message is
judged by names, shapes and finite values; **its values are not compared with the seeded initial ones**, so the
values of the first rows passed too.

Written from `benchmarks/results/attacks/imprint.json` by

```sh
{command} --only-page
```

Made on {processor}.
"""


def verdict(row: Mapping[str, Any]) -> str:
    """Say in a word what an attack was worth."""
    if row["attack"] is None:
        return "nothing to read"
    if gain(row) >= DRAWN:
        return "**draws the picture**"
    found = ", but finds the picture" if finds(row) else ""
    return ("a little better than guessing" if gain(row) >= BETTER else "no better than guessing") + found


def page(table: Mapping[str, Any]) -> str:
    """Return the page of a table."""
    rows, asked = table["rows"], table["asked"]
    first = next(iter(rows.values()))["naive"]
    told = "; ".join(f"{name} {one['psnr_db']:.1f} dB, SSIM {one['ssim']:.2f}" for name, one in first.items())
    columns = ("what is sent", "base", "message", "PSNR", "SSIM", "place", "worth")
    lines = []
    for run in RUNS:
        if (row := rows.get(run.name)) is None:
            continue
        one = row["attack"]
        cells = [""] * 3
        if one is not None:
            cells = [f"{one['psnr_db']:.1f} dB", f"{one['ssim']:.2f}", str(one["place"])]
        base = f"made for {row['base']}" if row["base"] else "honest"
        lines.append((run.name, base, row["message"], *cells, verdict(row)))
    head = HEAD.format(side=asked["side"], naive=told, pictures=asked["decoys"] + 1)
    tried = "".join(f"| {name} | {became} |\n" for name, became in table["checks"].items())
    tail = TAIL.format(command=COMMAND, processor=table["hardware"]["processor"])
    return head + markdown(columns, lines) + "\n" + MIDDLE + tried + tail


def main(arguments: list[str] | None = None) -> int:
    """Run what is not there yet and write the table."""
    parser = parser_of(__doc__)
    args = parser.parse_args(arguments)
    if args.only_page:
        PAGE.write_text(page(read(args.out)), encoding="utf-8")
        return 0
    asked = {"side": SIDE, "others": OTHERS, "decoys": DECOYS, "precision": "fp32", "site": SITE}
    asked |= {"cut": [EXACT, CUT], "smooth": [SMOOTH, BLUR], "gradient": [SMALL, LARGE], "code": imprint_a.CODE}
    table = so_far(parser, args.out, asked)
    others, decoys = other_pictures(OTHERS), other_pictures(DECOYS, site=SITE)
    with tempfile.TemporaryDirectory() as folder:
        data, base = Path(folder) / "data", Path(folder) / "base.pth"
        make_phantom(data, size=ONE, sites=BASE_SITES, seed=SEED)
        torch.save(imprint_a.malicious_state(), base)
        tried = table.get("checks") or checks(base, data, Path(folder) / "checks")

        def row(run: Run, number: int) -> dict[str, Any]:
            return attack(run, data=data, home=Path(folder) / f"home{number}", others=others, decoys=decoys)

        fill(
            args,
            table,
            RUNS,
            row,
            show=lambda made: made["attack"],
            command=COMMAND,
            asked=asked,
            seed=SEED,
            checks=tried,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
