"""What a participant says of itself: its environment and its own ``local/sitelora.json``, its policy among it.

Nothing here comes from a job. Only inside NVFlare's simulator may a missing dataset be drawn instead, where
there is a phantom of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sitelora.data.site_folder import WITH_PHANTOM, SiteDataError, find_site_folder
from sitelora.home import DATA_VARIABLE, data_root, home, site_methods, site_values
from sitelora.policy.site_policy import LEVELS, Policy

if TYPE_CHECKING:
    from sitelora.sharing.bounds import ExitBounds

logger = logging.getLogger(__name__)

SITE_CONFIG = "sitelora.json"


@dataclass(frozen=True, kw_only=True)
class OwnConfig:
    """One participant's own configuration.

    Attributes:
        name: of the participant.
        home: where it keeps its state.
        file: its ``local/sitelora.json``, if there is one.
        simulated: NVFlare's simulator runs it.
        methods: modules whose functions a job may name as methods here. values: bundle values that the site sets.
        policy: what it allows; everything that is judged in other places too where its file names none.
    """

    name: str
    home: Path
    file: Path | None
    simulated: bool
    methods: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy = field(default_factory=lambda: Policy.of_level(LEVELS[0]))

    @classmethod
    def read(cls, *, name: str, folder: Path, simulated: bool) -> Self:
        """Return the configuration of a participant.

        Args:
            name: of the participant. folder: its ``local``. simulated: NVFlare's simulator runs it.

        Raises:
            ValueError: its ``sitelora.json`` is not usable.
        """
        file = own_file(folder)
        return cls(
            name=name,
            home=home(file),
            file=file,
            simulated=simulated,
            methods=site_methods(file),
            values=site_values(file),
            policy=Policy.read(file),
        )

    @property
    def bounds(self) -> ExitBounds:
        """What bounds its answers."""
        return self.policy.bounds

    @property
    def bases(self) -> Sequence[str] | None:
        """What a network may stand on, None for anything."""
        return self.policy.bases

    @property
    def most_missed_rounds(self) -> int | None:
        """How many rounds in a row it may have been away in, None for any number."""
        return self.policy.most_missed_rounds

    def site_folder(self, dataset: str) -> tuple[Path, bool]:
        """Return this site's folder of a dataset, and whether it had to be drawn.

        Raises:
            SiteDataError: there is none; says where it was looked for and how to make it.
        """
        root = data_root(self.file)
        try:
            return find_site_folder(dataset, self.name, root), False
        except SiteDataError:
            chosen = DATA_VARIABLE in os.environ or (self.file is not None and root != self.home / "data")
            if not self.simulated or dataset not in WITH_PHANTOM or chosen:
                raise
        from sitelora.data.prepare import draw_site  # only here: the simulator starts many processes

        drawn = draw_site(dataset, self.name, self.home / "phantom")
        logger.warning(
            "site %s: NO REAL DATA: %s has no %s/%s, so the simulator trains on an artificial phantom in %s. "
            "Set %s to the root of real site folders",
            *(self.name, root, dataset, self.name, drawn, DATA_VARIABLE),
        )
        return drawn, True


def own_file(folder: Path) -> Path | None:
    """Return the ``sitelora.json`` of a participant's ``local`` folder, None where there is none.

    A broken link, a folder or a pipe of that name is not nothing: whoever put it there meant a policy.

    Raises:
        ValueError: it is no file, or its name is spelt in other letters.
    """
    expected = folder / SITE_CONFIG
    if expected.is_file():
        return expected
    if os.path.lexists(expected):
        raise ValueError(
            f"site configuration {expected}: found no regular file, expected one; put it right or remove it"
        )
    near = [each.name for each in _inside(folder) if each.name.casefold() == SITE_CONFIG]
    if near:
        raise ValueError(f"site configuration: found {folder / near[0]}, expected {SITE_CONFIG}; rename it")
    return None


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # nothing is configured there
        return []
