"""A hospital that comes after the last round: what it is given, and what a few steps on its own cases make of it.

It goes the way that a hospital goes: the federation's model is a file, which becomes the base of a site of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.experiment import Cell, Entry
from sitelora.comparison.evidence.job import ALONE, EvidenceJob
from sitelora.comparison.evidence.scoring import Scores, afterwards
from sitelora.comparison.run import for_unseen_sites
from sitelora.data.site_folder import SiteFolder
from sitelora.federation.build_network import load_model, save_merged
from sitelora.federation.in_process import run_in_process
from sitelora.federation.site import Site
from sitelora.method import Model
from sitelora.sharing.wire import Packet


def keep_given(file: Path) -> Callable[[Mapping[str, Site], Callable[[str], Packet]], None]:
    """Return what `run_in_process` is to call at its end: it writes what a site gets that took no part."""

    def keep(sites: Mapping[str, Site], packet: Callable[[str], Packet]) -> None:
        name, site = next(iter(sites.items()))
        given = for_unseen_sites(site.served_models(packet(name)), pooled=False)
        if not isinstance(given, Model):
            raise ValueError(f"{given}; a row of newcomers needs a method that leaves a model to them")
        load_model(site.network, given)
        save_merged(site.network, file)

    return keep


def adapted(
    one: EvidenceJob, folder: SiteFolder, given: Path | None, *, data: Path, place: Path, tuned_steps: int
) -> tuple[Scores, int]:
    """Train a newcomer alone from what it is given and return its models' scores and how many values it trains.

    Args:
        given: the federation's model; None stands for the base, as a hospital has it without any federation.
        data: root of arranged site folders. place: for its state.
    """
    row = {ALONE: Entry(method=ALONE)}
    asks = replace(
        one.asks,
        sites=(folder.name,),
        rounds=1,
        steps=one.asks.newcomer_steps,
        cells={one.cell: Cell(title=one.cell)},
        entries=row,
        newcomers=(),
        small=(),
        claims=(),
        curve=(),
        grid=(),
    )
    alone = replace(one, entry=row[ALONE], steps=asks.steps, what=asks)
    found: dict[str, Any] = {}
    run_in_process(
        bundle=alone.bundle,
        dataset=asks.dataset,
        sites=(folder.name,),
        rounds=1,
        overrides={**alone.job(data=data, out=place).overrides, **({"base": str(given)} if given else {})},
        data=data,
        home_folder=place,
        evaluate=False,
        afterwards=afterwards(found, [folder], [], tuned_steps=tuned_steps),
    )
    return found["sites"][folder.name], found["values"]
