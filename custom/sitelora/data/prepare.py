"""Turn a public release, or only a seed, into site folders: one module a dataset, found by looking."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import sitelora.data.phantom.make
import sitelora.data.public
from sitelora.data.phantom.writing import DrawnSize
from sitelora.data.site_folder import Progress, SiteDataError


class Convert(Protocol):
    """Write the site folders of one dataset and return their paths."""

    def __call__(
        self,
        source: Path | None,
        out: Path,
        *,
        sites: Sequence[str] | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> list[Path]:
        """See :func:`prepare` for the arguments."""


class Converter(Protocol):
    """The names that a dataset's module offers; ``DATASET`` is the folder it writes below the data root."""

    NAME: str
    DATASET: str
    DESCRIPTION: str
    LABELS: Mapping[int, str]
    SITES: tuple[str, ...]
    convert: Convert


class Draw(Convert, Protocol):
    """A conversion that needs no release, and makes as many cases as it is asked for."""

    def __call__(
        self,
        source: Path | None,
        out: Path,
        *,
        sites: Sequence[str] | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        size: DrawnSize | None = None,
    ) -> list[Path]:
        """See :func:`prepare` for the arguments; ``size`` is one of the phantom's own, ``None`` for its default."""


class Phantom(Converter, Protocol):
    """A converter that draws; ``VERSION`` counts its drawings' changes, ``SIZE()`` says how much it draws."""

    VERSION: int
    SIZE: Callable[..., DrawnSize]
    convert: Draw


def converters() -> dict[str, Converter]:
    """Return every converter by name: what offers :class:`Converter`'s names in `data.public` and `data.phantom`."""
    found = {}
    rooms = (sitelora.data.public, sitelora.data.phantom)
    for name in [f"{room.__name__}.{info.name}" for room in rooms for info in pkgutil.iter_modules(room.__path__)]:
        module = importlib.import_module(name)
        if all(hasattr(module, name) for name in Converter.__annotations__):
            converter = cast(Converter, module)
            found[converter.NAME] = converter
    return dict(sorted(found.items()))


def prepare(
    dataset: str,
    *,
    source: Path | None,
    out: Path,
    sites: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``<out>/<DATASET>/<site>`` for every site; a complete one is skipped, other data is refused.

    Args:
        dataset: one of :func:`converters`.
        source: the unpacked public release; ``None`` for a dataset that is drawn.
        out: the data root.
        sites: some of the dataset's sites, ``None`` for all.
        overwrite: replace a site folder of other content instead of refusing.
        progress: called with the site, the cases done and the cases of that site.

    Returns:
        the site folders.

    Raises:
        SiteDataError: an unknown dataset or site, a source that is not the release, or other data in the way.
    """
    known = converters()
    if dataset not in known:
        raise SiteDataError(f"found the dataset {dataset!r}, expected one of {', '.join(known)}")
    return known[dataset].convert(source, Path(out), sites=sites, overwrite=overwrite, progress=progress)


def phantom_of(dataset: str) -> Phantom:
    """Return what draws a dataset.

    Raises:
        KeyError: it has no phantom.
    """
    return cast(Phantom, converters()[f"{dataset}_phantom"])


def draw_site(dataset: str, site: str, out: Path, *, cases: Mapping[str, int] | None = None) -> Path:
    """Draw one site of a dataset that has a phantom, below ``out`` in a folder of the drawing's own version.

    Args:
        cases: how many, by split; None for as many as the phantom has.

    Raises:
        KeyError: the dataset has no phantom. SiteDataError: the phantom has no such site.
    """
    phantom = phantom_of(dataset)
    size = None if cases is None else phantom.SIZE(**cases)
    (folder,) = phantom.convert(None, out / f"v{phantom.VERSION}", sites=[site], size=size)
    return folder
