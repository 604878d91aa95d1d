"""What all phantoms have in common: how much is drawn, at which sites, and how it becomes site folders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitelora.data.site_folder import SPLITS, Progress, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_site_folder

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DrawnSize:
    """How much to draw: cases of a split and, for tests, another matrix and slice count at equal extent.

    Attributes:
        training: cases of the training split.
        validation: cases of the validation split.
        test: cases of the test split.
        matrix: pixels along each in-plane axis, ``None`` for each site's own.
        slices: slices of a case, ``None`` for each site's own.
    """

    training: int
    validation: int
    test: int
    matrix: int | None = None
    slices: int | None = None


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A phantom's part in its site folders.

    Attributes:
        name: of the phantom. version: of its drawings. labels, modality: as of `SiteFolder`.
        hospital: name of the hospital that stands for a site.
        entry: from site, number and name of a case to its entry in dataset.json.
        write: draws the case of this site and number and writes its files of this name into the site folder.
        knobs: what else it was drawn with, for dataset.json.
    """

    name: str
    version: int
    labels: Mapping[int, str]
    modality: str
    hospital: Callable[[str], str]
    entry: Callable[[str, int, str], Mapping[str, Any]]
    write: Callable[[Path, str, int, str], None]
    knobs: Mapping[str, float] = field(default_factory=dict)


def chosen_sites(phantom: str, sites: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return the sites that are drawn: those that are named, or all.

    Raises:
        SiteDataError: an unknown one, at the head of the message the phantom.
    """
    chosen = tuple(known if sites is None else sites)
    unknown = [site for site in chosen if site not in known]
    if unknown:
        raise SiteDataError(f"{phantom}: no site {', '.join(unknown)}; expected some of {', '.join(known)}")
    return chosen


def require_size(phantom: str, size: DrawnSize, *, case: str, matrix: int) -> None:
    """Refuse a size without training cases, below this matrix or of one slice.

    Args:
        phantom: at the head of the message. size: the size. case: what a case is called. matrix: the smallest one.
    """
    sides = ((size.matrix or matrix) - matrix, (size.slices or 2) - 2)
    small = min(size.training - 1, size.validation, size.test, *sides)
    if small < 0:
        raise SiteDataError(
            f"{phantom}: {size}: expected 1 training {case}, a matrix of {matrix} and 2 slices at least"
        )


def require_no_source(phantom: str, source: Path | None) -> None:
    """Refuse a source: there is nothing to convert."""
    if source is not None:
        raise SiteDataError(
            f"{phantom} is drawn, not converted: found the source {source}, expected none; leave it out"
        )


def drawing(name: str, known: Sequence[str], make: Callable[..., Path]) -> Callable[..., list[Path]]:
    """Return a phantom's conversion: the arguments of every converter, and a size where another one is wanted.

    Args:
        name: of the phantom. known: its sites. make: draws some of them and returns the dataset's folder.
    """

    def convert(
        source: Path | None,
        out: Path,
        *,
        sites: Sequence[str] | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        size: DrawnSize | None = None,
    ) -> list[Path]:
        """Draw the phantom, at its default size unless one is given.

        Raises:
            SiteDataError: a source is given (there is nothing to convert), or as for what draws it.
        """
        require_no_source(name, source)
        folder = make(out, sites=sites, size=size, overwrite=overwrite, progress=progress)
        return [folder / site for site in (known if sites is None else sites)]

    return convert


def write_sites(
    dataset: Path,
    sites: Sequence[str],
    drawn: Drawn,
    *,
    seed: int,
    size: DrawnSize,
    overwrite: bool,
    progress: Progress | None,
) -> Path:
    """Write a folder a site below that of the dataset, which is returned; one that is there alike is skipped.

    Raises:
        SiteDataError: other data at its place.
    """
    for site in sites:
        _write_site(dataset / site, drawn, seed=seed, size=size, overwrite=overwrite, progress=progress)
    return dataset


def _write_site(
    target: Path, drawn: Drawn, *, seed: int, size: DrawnSize, overwrite: bool, progress: Progress | None
) -> None:
    """Write one site folder; one that is there with the same settings is skipped.

    Raises:
        SiteDataError: other data at its place.
    """
    site, names = target.name, list[str]()
    splits: dict[str, tuple[Mapping[str, Any], ...]] = {}
    for split in SPLITS:
        numbers = range(len(names), len(names) + getattr(size, split))
        names += [f"case-{number:03d}" for number in numbers]
        splits[split] = tuple(drawn.entry(site, number, names[number]) for number in numbers)
    folder = SiteFolder(
        path=target,
        name=site,
        hospital=drawn.hospital(site),
        labels=drawn.labels,
        splits=splits,
        modality=drawn.modality,
        source={
            "made_by": drawn.name,
            "version": drawn.version,
            "seed": seed,
            "matrix": size.matrix,
            "slices": size.slices,
            **drawn.knobs,
        },
    )

    def fill(path: Path) -> None:
        for number, name in enumerate(names):
            drawn.write(path, site, number, name)
            if progress is not None:
                progress(site, number + 1, len(names))

    if write_site_folder(folder, fill, overwrite=overwrite):
        _log.info("%s: wrote %d cases to %s", drawn.name, len(names), target)
