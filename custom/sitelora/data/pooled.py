"""All sites' cases in ONE folder: the centralised baseline that a federation is measured against, and never is.

THIS NEEDS EVERY SITE'S IMAGES IN ONE PLACE. No federation has that, and the project exists because hospitals must not
do it. Use it on public data alone, to say what the separation costs; nothing but comparisons of methods may call it.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.data.site_folder import SPLITS, Progress, SiteDataError, SiteFolder, find_site_folder
from sitelora.data.site_writer import write_site_folder

POOLED = "pooled"

_log = logging.getLogger(__name__)


def pool_sites(
    root: Path,
    dataset: str,
    sites: Sequence[str],
    out: Path,
    *,
    repeats: Mapping[str, int] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """COPY ALL IMAGES of several sites into one site folder, ``<out>/<dataset>/pooled``; see the module's warning.

    Every split is the union of the sites' splits, so a test patient of one site is a test patient here. Each entry has
    the field ``site``; file names get the prefix ``<site>_`` and patients ``<site>/``, so that none collide. Other
    fields stay as they are.

    Args:
        root: the data root that holds ``<dataset>/<site>``.
        dataset: the dataset's name.
        sites: the sites to pool; their order makes no difference.
        out: the data root to write to, ``root`` or another.
        repeats: how often a site's training cases are there, under further names; once by default.
        overwrite: replace a pooled folder of other content instead of refusing.
        progress: called with "pooled", the files copied and their number.

    Returns:
        the pooled site folder.

    Raises:
        SiteDataError: no sites, a site without data or of other labels, two files that would get one name, or other
            data at the place.
    """
    names = sorted(set(sites))
    if not names or POOLED in names:
        raise SiteDataError(f"{dataset}: found the sites {names}, expected at least one, and none called {POOLED!r}")
    folders = [SiteFolder.read(find_site_folder(dataset, name, Path(root))) for name in names]
    for folder in folders[1:]:
        if dict(folder.labels) != dict(folders[0].labels):
            raise SiteDataError(
                f"site {folder.name}: found the labels {dict(folder.labels)}, expected {dict(folders[0].labels)} as at "
                f"{folders[0].name}; map the label values before pooling"
            )
    often = [(f, number) for f in folders for number in range((repeats or {}).get(f.name, 1))]
    moved = {
        split: [(f, e, _moved(f, e, n)) for f, n in often if not n or split == "training" for e in f.splits[split]]
        for split in SPLITS
    }
    splits = {split: tuple(entry for _, _, entry in each) for split, each in moved.items()}
    sources = _sources(moved)
    pooled = SiteFolder(
        path=Path(out) / dataset / POOLED,
        name=POOLED,
        hospital=" + ".join(folder.hospital for folder in folders),
        labels=folders[0].labels,
        splits=splits,
        modality=", ".join(sorted({folder.modality for folder in folders})),
        source={"made_by": POOLED, "content_sha256": {folder.name: content_sha256(folder) for folder in folders}},
    )

    def fill(path: Path) -> None:
        for done, (name, source) in enumerate(sources.items(), 1):
            shutil.copyfile(source, path / name)
            if progress is not None:
                progress(POOLED, done, len(sources))

    if write_site_folder(pooled, fill, overwrite=overwrite):
        _log.warning("%s: the images of %s are in ONE place, %s", dataset, ", ".join(names), pooled.path)
    return pooled.path


def own_name(site: str, case: str) -> str:
    """Return the name that a pooled case or file has at its own site."""
    return case.removeprefix(f"{site}_")


def own_patient(site: str, patient: str) -> str:
    """Return the name that a pooled patient has at its own site."""
    return patient.removeprefix(f"{site}/")


def content_sha256(folder: SiteFolder) -> str:
    """Return one hash of a site's lists and of every file that they name."""
    total = hashlib.sha256()
    for split in SPLITS:
        for entry, case in zip(folder.splits.get(split, ()), folder.cases(split), strict=True):
            total.update(f"{split}|{sorted(entry.items())}\n".encode())
            for key in ("image", "label"):
                if key in case:
                    total.update(hashlib.sha256(Path(case[key]).read_bytes()).digest())
    return total.hexdigest()


def _moved(folder: SiteFolder, entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return an entry as the pooled folder has it, the first time (0) or again."""
    again = f"again{number}_" if number else ""
    files = {
        key: f"{parent}/{folder.name}_{again}{Path(entry[key]).name}"
        for key, parent in (("image", "images"), ("label", "labels"))
        if key in entry
    }
    return {**entry, **files, "patient": f"{folder.name}/{entry['patient']}", "site": folder.name}


def _sources(
    moved: Mapping[str, Sequence[tuple[SiteFolder, Mapping[str, Any], Mapping[str, Any]]]],
) -> dict[str, Path]:
    """Return every file's new name and where it comes from, of every split's (site, old entry, new entry)."""
    sources: dict[str, Path] = {}
    for each in moved.values():
        for folder, old, new in each:
            for key in ("image", "label"):
                if key not in old:
                    continue
                name, source = new[key], folder.path.absolute() / str(old[key])
                if sources.setdefault(name, source) != source:
                    raise SiteDataError(
                        f"{sources[name]} and {source} would both become {name}; rename one of the files at its site"
                    )
    return sources
