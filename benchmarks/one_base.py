"""Memory of many sites in one process: the frozen ViT-B once, and what each further site adds to it.

    python benchmarks/one_base.py --out benchmarks/results/one_base.json

Sites of the product (`Site`, iat_segmentation, the prostate phantom) on ViT-B at 224 px, after one step of training
each, so that optimiser, adapters and what else a site keeps are there: six copies of its adapters (values, gradients,
AdamW's two, the start, what it was given) and its cached case. ``apart`` are as many sites, each with a base of
its own, in another process; fewer of them, as each further one costs the same. Resident megabytes, read after the
collector has run and the allocator has given back what it can.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from sitelora.comparison.run import commit
from sitelora.data.phantom.make import PhantomSize, make_phantom
from sitelora.federation.build_network import partition_of
from sitelora.federation.machine import hardware, versions
from sitelora.federation.one_base import OneBase
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteSettings

SITE = "site-1"
SIZE = PhantomSize(training=1, validation=1, test=1)
OVERRIDES = {"arch": "vit_b", "base": None, "image_size": 224, "epochs": 1, "slices": 1, "torch_threads": 1}


def resident_mb() -> float:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss / 1e6


def grown(data: Path, sites: int, *, together: bool, precision: str) -> dict[str, Any]:
    """Return megabytes after each site, beside what this process had before the first; and the sizes it is about."""
    one_base = OneBase()
    members, megabytes, before = [], [], resident_mb()
    for number in range(sites):
        settings = SiteSettings(
            site=SITE,
            federation="one_base",
            uid="run",
            bundle="iat_segmentation",
            data=data / SITE,
            home=data / f"home-{number}",
            overrides={**OVERRIDES, "precision": precision},
        )
        site = Site(settings, one_base=one_base if together else None)
        local = site.local_round
        received = {name: local.initial[name] for name in partition_of(site.network).shared}
        local.run(0, received=received, companions={}, state=local.fresh_state())
        members.append(site)
        megabytes.append(round(resident_mb() - before, 1))
    parameters = list(members[0].network.parameters())
    sizes = {
        f"{name}_mb": round(sum(p.numel() * p.element_size() for p in parameters if p.requires_grad is trains) / 1e6, 1)
        for name, trains in (("base", False), ("adapters", True))
    }
    return {"after_each_mb": megabytes, **sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sites", type=int, default=24)
    parser.add_argument("--apart", type=int, default=3, help="sites with a base each, in the other process")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--one", nargs=2, metavar=("DATA", "HOW"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        together = args.one[1] == "together"
        count = args.sites if together else args.apart
        print(json.dumps(grown(Path(args.one[0]), count, together=together, precision=args.precision)))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="one-base-") as place:
        data = make_phantom(Path(place), size=SIZE, sites=[SITE])
        for how in ("together", "apart"):
            command = [sys.executable, __file__, *sys.argv[1:], "--one", str(data), how]
            answered = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[how] = json.loads(answered.splitlines()[-1])
    together, apart = found["together"], found["apart"]
    first, last = together["after_each_mb"][0], together["after_each_mb"][-1]
    alone = apart["after_each_mb"]
    allowed = 1.2 * (first + (args.sites - 1) * together["adapters_mb"])
    result = {
        "what": "resident megabytes that sites add to a process which has imported everything",
        "command": "python benchmarks/one_base.py --out benchmarks/results/one_base.json",
        "commit": commit(),
        "settings": {**OVERRIDES, "precision": args.precision},
        "hardware": hardware(),
        "versions": versions(),
        "sites": args.sites,
        **found,
        "first_mb": first,
        "all_mb": last,
        "a_further_site_mb": round((last - first) / max(1, args.sites - 1), 1),
        "a_further_site_apart_mb": round((alone[-1] - alone[0]) / max(1, len(alone) - 1), 1),
        "allowed_mb": round(allowed, 1),
        "holds": last <= allowed,
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
