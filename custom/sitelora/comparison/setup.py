"""What is compared on which dataset: ``setups/NAME.toml`` says everything that may be tuned, for every number alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from sitelora.comparison.data_files import read_toml
from sitelora.data.phantom.make import make_phantom
from sitelora.disk import OTHER_OUT, saying
from sitelora.method_registry import REFERENCES
from sitelora.names import checked_name, checked_sites
from sitelora.value_kinds import did_you_mean

BUNDLE = "iat_segmentation"
"""Its settings hold for every method, unless a setup names another one; only the method is replaced."""

CENTRALISED = "centralised"
ON_ALL_IMAGES: Mapping[str, str] = {CENTRALISED: "local", **{name: name for name in REFERENCES}}
"""Name in a comparison to the method that runs on ONE folder with all sites' images, which no federation has."""

ENDING = ".toml"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One dataset's comparison, as a file says it.

    Args:
        title: of the page. cite: the images' source and terms.
        dataset: name of the sites' folders. sites: their names.
        bundle: whose settings hold for every method.
        prepare: the command that makes the site folders, for the page.
        drawn: whether they are the phantom's, drawn where they are missing.
        left_out: sites that never take part, on whose cases the global or unseen-site model is scored.
        rounds: of every run. epochs: of every round, each every picture once or ``steps_per_epoch`` steps.
        rates: learning rates to choose from for every method, on one seed and by the validation score.
        overrides: bundle values, the same for every method. arguments: of a method, by its name.
        goal_score: personal score that every site is to reach. goal_seconds: longest run. ``None`` for no goal.
    """

    title: str
    cite: str
    dataset: str
    sites: Sequence[str]
    bundle: str = BUNDLE
    left_out: Sequence[str] = ()
    prepare: str = ""
    drawn: bool = False
    rounds: int
    epochs: int
    rates: Sequence[float] = (0.002, 0.004, 0.008)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    goal_score: float | None = None
    goal_seconds: float | None = None

    def __post_init__(self) -> None:
        checked_name("dataset", self.dataset)
        checked_sites([*self.sites, *self.left_out])
        if min(self.rounds, self.epochs, *map(float, self.rates)) <= 0 or not (self.sites and self.rates):
            raise ValueError(
                f"found {len(self.sites)} sites, rounds {self.rounds}, epochs {self.epochs} and rates "
                f"{list(self.rates)}, expected at least one of each and all above 0"
            )


def setups(folder: Path | None = None) -> dict[str, Setup]:
    """Return every setup by name: those of this package, then those that ``keep_setup`` left in a comparison's folder.

    Raises:
        DataFileError: one of the files does not say a setup.
    """
    places = [files("sitelora.comparison") / "setups", *([folder / "setups"] if folder else [])]
    found = [file for place in places if place.is_dir() for file in sorted(place.iterdir(), key=str)]
    return {file.name.removesuffix(ENDING): read_toml(Setup, file) for file in found if file.name.endswith(ENDING)}


def find_setup(name: str, folder: Path | None = None) -> Setup:
    """Return a setup out of ``setups(folder)``.

    Raises:
        ValueError: there is none; names those that there are.
    """
    known = setups(folder)
    if name not in known:
        raise ValueError(
            f"no dataset is called {name!r} here{did_you_mean(name, known)}; there are: {', '.join(sorted(known))}; "
            f"a setup of your own is a file: --dataset FILE{ENDING}"
        )
    return known[name]


def keep_setup(file: Path, folder: Path) -> str:
    """Copy a setup of one's own into a comparison's folder, beside its runs, and return its name.

    Raises:
        ValueError: its name may name no folder, or is that of a setup of this package.
        DataFileError: it does not say a setup.
    """
    name = checked_name("setup", file.stem)
    if name in setups():
        raise ValueError(f"{file}: there is a setup {name!r} already; give the file another name")
    read_toml(Setup, file)
    kept = folder / "setups" / file.name
    content = file.read_bytes()
    with saying(kept, elsewhere=OTHER_OUT):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    return name


def data_of(name: str, setup: Setup, root: Path) -> Path:
    """Return the root of the site folders, drawing the phantom's where they are missing."""
    if not setup.drawn:
        return root
    drawn = root / "drawn" / name
    make_phantom(drawn, sites=setup.sites)
    return drawn
