"""A comparison on any site folders that pass the check: what a setup says is read off the data; its length is ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.comparison.data_files import read_toml
from sitelora.comparison.setup import BUNDLE, ENDING, Setup
from sitelora.data.check import check_site_folder
from sitelora.data.check_sites import with_each_other
from sitelora.data.endings import PICTURES
from sitelora.data.site_entries import labels_key
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder, find_site_folder
from sitelora.disk import OTHER_OUT, saying
from sitelora.federation.bundle_config import data_needs
from sitelora.settings import read_settings

ROUNDS, STEPS, BATCH = 10, 40, 4
"""Of a setup that nobody wrote: 400 steps a site, four pictures a step (our choice)."""
CLASSES_OF_HEARTS, CLASSES_OF_PICTURES = "med_duallora_classification", "fedopal_classification"


def own_setup(dataset: str, sites: Sequence[str], root: Path) -> Setup:
    """Return the setup of a dataset's sites, each checked by the reader that training uses.

    Args:
        dataset: its name below the data root. sites: names of its sites. root: the data root.

    Raises:
        SiteDataError: a site that is missing or not fit for training by any bundle, or sites of other labels; with
            every problem.
    """
    folders = [SiteFolder.read(find_site_folder(dataset, site, root)) for site in sites]
    first = folders[0]
    for folder in folders[1:]:
        if labels_key(folder.labels) != labels_key(first.labels):
            raise SiteDataError(
                f"site {folder.name}: found the labels {dict(folder.labels)}, expected {dict(first.labels)} as at "
                f"{first.name}; map the label values before comparing"
            )
    entries = [entry for folder in folders for split in SPLITS for entry in folder.splits.get(split, ())]
    masks = any("label" in entry for entry in entries)
    pictures = all(str(entry["image"]).lower().endswith(PICTURES) for entry in entries)
    overrides: dict[str, Any] = {"classes": len(first.labels) - 1} if masks else {"classes": len(first.labels)}
    if masks:
        overrides |= {"pictures": pictures, "batch_size": BATCH if pictures else 1}
    bundle = BUNDLE if masks else CLASSES_OF_PICTURES if pictures else CLASSES_OF_HEARTS
    _require_fit(bundle, overrides, folders)
    return Setup(
        title=f"{dataset}: {', '.join(sites)}",
        cite="the sites' own data",
        dataset=dataset,
        sites=tuple(sites),
        bundle=bundle,
        rounds=ROUNDS,
        epochs=1,
        overrides={**overrides, "steps_per_epoch": STEPS},
    )


def _require_fit(bundle: str, overrides: Mapping[str, Any], folders: Sequence[SiteFolder]) -> None:
    """Read all data once, with the eyes of a bundle.

    Raises:
        SiteDataError: of all sites whose data it does not take.
    """
    settings = read_settings(bundle, dict(overrides), sites=tuple(folder.name for folder in folders))
    needs, bad = data_needs(bundle, settings.parser()), list[str]()
    for result in with_each_other([check_site_folder(folder.path, needs=needs) for folder in folders]):
        try:
            result.raise_if_bad()
        except SiteDataError as error:
            bad.append(str(error))
    if bad:
        raise SiteDataError(f"no bundle takes the data of all these sites as they are; {bundle}:\n" + "\n".join(bad))


def write_setup(setup: Setup, folder: Path) -> str:
    """Write a setup into a comparison's folder, beside its runs, and return its name; one that is there stays.

    It may have been changed by hand, and runs were made with it.

    Raises:
        SiteDataError: the one that is there is of other sites or of another bundle.
    """
    name = f"{setup.dataset}_own"
    file = folder / "setups" / f"{name}{ENDING}"
    if file.is_file():
        there = read_toml(Setup, file)
        if (tuple(there.sites), there.bundle) != (tuple(setup.sites), setup.bundle):
            raise SiteDataError(
                f"{file}: found a comparison of {', '.join(there.sites)} with {there.bundle}, expected one of "
                f"{', '.join(setup.sites)} with {setup.bundle}; choose another --out for this one, or remove that file "
                "and its runs"
            )
        return name
    told = {"title": setup.title, "cite": setup.cite, "dataset": setup.dataset, "bundle": setup.bundle}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()]
    lines += [f"sites = {json.dumps(list(setup.sites))}", f"rounds = {setup.rounds}", f"epochs = {setup.epochs}"]
    lines += ["", "[overrides]", *(f"{key} = {json.dumps(value)}" for key, value in setup.overrides.items())]
    with saying(file, elsewhere=OTHER_OUT):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name
