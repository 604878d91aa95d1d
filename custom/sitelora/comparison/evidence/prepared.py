"""A run's cases in folders of their own, proof that its block has the same, and the federation over them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitelora.comparison.evidence.arrangement import repeats, write_arranged
from sitelora.comparison.evidence.block import kind_here, require_same_kind
from sitelora.comparison.evidence.job import BASES, EvidenceJob
from sitelora.comparison.record import require_test_cases, require_whole
from sitelora.comparison.run import Job
from sitelora.comparison.run_file import ComparisonError
from sitelora.data.pooled import POOLED, content_sha256, pool_sites
from sitelora.data.site_folder import SiteFolder, find_site_folder
from sitelora.federation.in_process import run_in_process
from sitelora.run_result import RunResult
from sitelora.server.aggregation import Aggregation


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that may begin.

    Attributes:
        job: it, over the arranged data. root: that data, pooled where the run trains on all images. sites: that train.
        folders: every site's own, newcomers': theirs, arranged. lists: case names by site and split.
        kind: of `kind_here`.
    """

    job: Job
    root: Path
    sites: tuple[str, ...]
    folders: Sequence[SiteFolder]
    newcomers: Sequence[SiteFolder]
    lists: Mapping[str, Mapping[str, Sequence[str]]]
    kind: Mapping[str, Any]


def prepare(one: EvidenceJob, *, data: Path, out: Path, place: Path, at_a_time: int = 1) -> Prepared:
    """Arrange a run's data below a folder and compare it with its block.

    Args:
        data: root of the site folders. out: folder of all results. place: an empty folder. at_a_time: runs that share
            the machine.

    Raises:
        RefusedError: other data, precision, processor or versions than its block has.
        SiteDataError: data that is missing or not fit. ComparisonError: a base that is missing.
    """
    if one.entry.base and not one.base(out).is_file():
        raise ComparisonError(
            f"{one}: found no base {one.base(out)}; copy it from docs/results/{BASES} of the repository, or make it: "
            "benchmarks/pretrain/pretrain.py"
        )
    asks, root = one.asks, place / "data"
    lists = write_arranged(data, asks, asks.cells[one.cell], one.seed, root)
    folders = [SiteFolder.read(find_site_folder(asks.dataset, site, root)) for site in one.sites]
    require_test_cases(folders)
    newcomers = [SiteFolder.read(find_site_folder(asks.dataset, site, root)) for site in asks.newcomers]
    job = one.job(data=root, out=out, at_a_time=at_a_time)
    values = job.judged.parser()
    hashes = {folder.name: content_sha256(folder) for folder in (*folders, *newcomers)}
    kind = kind_here(values["precision"], threads=int(values["torch_threads"]), data=hashes)
    require_same_kind(kind, block_of(one, out))
    sites: tuple[str, ...] = one.sites
    if job.on_all_images:
        often = repeats(folders) if one.entry.balanced else None
        pool_sites(root, asks.dataset, one.sites, root / "all", repeats=often)
        root, sites = root / "all", (POOLED,)
    return Prepared(job=job, root=root, sites=sites, folders=folders, newcomers=newcomers, lists=lists, kind=kind)


def train(
    one: EvidenceJob,
    ready: Prepared,
    *,
    home: Path,
    rounds: int,
    overrides: Mapping[str, Any] | None = None,
    **more: Any,
) -> RunResult:
    """Run a federation over prepared data, in all rounds and with every site.

    Args:
        home: where its state is kept. rounds: how many.
        overrides: bundle values in place of the run's own. more: ``on_round`` and ``afterwards`` of `run_in_process`.

    Raises:
        RuntimeError: a round or a site is missing.
    """
    result = run_in_process(
        bundle=one.bundle,
        dataset=one.asks.dataset,
        sites=ready.sites,
        rounds=rounds,
        overrides={**ready.job.overrides, **(overrides or {})},
        data=ready.root,
        home_folder=home,
        aggregation=Aggregation(rule=one.entry.aggregation, weights=one.entry.weights),
        evaluate=False,
        **more,
    )
    require_whole(result, rounds, str(one))
    return result


def block_of(one: EvidenceJob, out: Path) -> list[dict[str, Any]]:
    """Return the records of a run's block that are there."""
    found = []
    for file in sorted(one.file(out).parent.glob(f"*_s{one.steps}_lr*_seed{one.seed}.json")):
        found.append(json.loads(file.read_bytes()))
    return found
