"""A model that a run left at a site: its file, what the run's record tells of it, and what its export is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sitelora.federation.run_folder import RunFolder
from sitelora.names import checked_name
from sitelora.report.results import Run, read_run
from sitelora.run_result import ModelScore
from sitelora.serving.model_file import made_of
from sitelora.settings import read_settings

KINDS = ("personal", "global", "unseen")
_DATED = re.compile(r"(\d{4})(\d{2})(\d{2})-\d{6}-")


class ExportError(ValueError):
    """A model cannot be exported; the message says why, and nothing was written."""


@dataclass(frozen=True, kw_only=True)
class ModelOfRun:
    """A model to be exported.

    Attributes:
        folder: of the run. run: what it left, as far as it is at hand: a site has its own part alone.
        site: whose model it is. kind: one of ``KINDS``. file: the model. made: what the file says of itself.
        task: its name.
    """

    folder: RunFolder
    run: Run
    site: str
    kind: str
    file: Path
    made: Mapping[str, Any]
    task: str

    @classmethod
    def find(cls, folder: Path, site: str, kind: str = "personal") -> ModelOfRun:
        """Find a model in a run's folder.

        Raises:
            ExportError: it is not there; says which are.
            ValueError: the file is damaged or no model.
        """
        place = RunFolder(folder)
        file = place.model(site, kind)
        if not file.is_file():
            there = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/models/*.pt"))
            run = read_run(folder)
            score = run.evaluation.get(site, {}).get(kind)
            why = f" ({score.not_applicable})" if score is not None and score.not_applicable else ""
            raise ExportError(
                f"no {kind} model of site {site!r} in {folder}{why}; models there: {', '.join(there) or 'none'}. A run "
                "leaves them after its last round, each at its own site"
            )
        made = made_of(file)
        if not made:
            raise ExportError(f"{file} does not say how it was made, so no bundle can be written of it: run it again")
        found = cls(
            folder=place,
            run=read_run(folder),
            site=site,
            kind=kind,
            file=file,
            made=made,
            task=read_settings(str(made["bundle"])).task.name,
        )
        try:  # they go into the bundle's configs and into names of folders
            checked_name("federation", found.federation)
            checked_name("uid", found.uid)
            checked_name("site", site)
            if found.run.result.dataset:  # said by a server
                checked_name("dataset", found.run.result.dataset)
        except ValueError as error:
            raise ExportError(f"{file}: {error}") from error
        return found

    @property
    def score(self) -> ModelScore | None:
        """Its score on the site's own test cases; None where it has none."""
        found = self.run.evaluation.get(self.site, {}).get(self.kind)
        return found if found is not None and found.score is not None else None

    @property
    def federation(self) -> str:
        """Name of the federation."""
        return str(self.made.get("federation") or self.folder.federation)

    @property
    def uid(self) -> str:
        """Uid of the run."""
        return str(self.made.get("uid") or self.folder.uid)

    @property
    def date(self) -> str:
        """Day of the run, as in ``2026-11-26``: out of its uid, else the day on which the file was written."""
        if match := _DATED.match(self.uid):
            return "-".join(match.groups())
        return datetime.fromtimestamp(self.file.stat().st_mtime, UTC).strftime("%Y-%m-%d")

    @property
    def line(self) -> str:
        """What all versions of this model have in common in their names."""
        whose = self.site if self.kind == "personal" else f"{self.site}-{self.kind}"
        return f"{self.federation}_{whose}"

    @property
    def words(self) -> str:
        """Which model it is, in a few words."""
        return {"personal": f"the model of {self.site}", "global": "the global model"}.get(
            self.kind, "the model for a site that took no part"
        )
