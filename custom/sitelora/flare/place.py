"""Where a participant keeps its state and finds its data: its own environment or ``local/sitelora.json``.

Nothing here comes from a job. Only inside NVFlare's simulator may a missing prostate dataset be drawn instead.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

from sitelora.data.site_folder import SiteDataError, find_site_folder
from sitelora.home import DATA_VARIABLE, data_root, home

logger = logging.getLogger(__name__)

SITE_CONFIG = "sitelora.json"
DRAWN_DATASET = "prostate"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One participant's own configuration.

    Attributes:
        name: of the participant.
        home: where it keeps its state.
        config: its ``local/sitelora.json``, if there is one.
        simulated: NVFlare's simulator runs it.
    """

    name: str
    home: Path
    config: Path | None
    simulated: bool

    @classmethod
    def of(cls, fl_ctx: FLContext) -> Place:
        """Return the place of the participant that NVFlare runs here.

        Raises:
            ValueError: its ``local/sitelora.json`` is not usable.
        """
        file = Path(fl_ctx.get_engine().get_workspace().get_site_config_dir()) / SITE_CONFIG
        config = file if file.is_file() else None
        # The simulator sets its mode itself and a server cannot; the job's name alone would be the server's word.
        simulated = bool(fl_ctx.get_prop(FLContextKey.SIMULATE_MODE, False))
        return cls(
            name=fl_ctx.get_identity_name(),
            home=home(config),
            config=config,
            simulated=simulated and fl_ctx.get_job_id() == SimulatorConstants.JOB_NAME,
        )

    def site_folder(self, dataset: str) -> tuple[Path, bool]:
        """Return this site's folder of a dataset, and whether it had to be drawn.

        Raises:
            SiteDataError: there is none; says where it was looked for and how to make it.
        """
        root = data_root(self.config)
        try:
            return find_site_folder(dataset, self.name, root), False
        except SiteDataError:
            chosen = DATA_VARIABLE in os.environ or (self.config is not None and root != self.home / "data")
            if not self.simulated or dataset != DRAWN_DATASET or chosen:
                raise
        from sitelora.data.phantom import VERSION, make_phantom  # only here: the simulator starts many processes

        drawn = make_phantom(self.home / "phantom" / f"v{VERSION}", sites=[self.name]) / self.name
        logger.warning(
            "site %s: NO REAL DATA: %s has no %s/%s, so the simulator trains on an artificial phantom in %s. "
            "Set %s to the root of real site folders",
            *(self.name, root, dataset, self.name, drawn, DATA_VARIABLE),
        )
        return drawn, True

    def hide(self, text: str) -> str:
        """Return an error text without this machine's folders, fit to leave the site."""
        for label, folder in (("<data>", data_root(self.config)), ("<home>", self.home), ("~", Path.home())):
            text = text.replace(str(folder), label)
        return text
