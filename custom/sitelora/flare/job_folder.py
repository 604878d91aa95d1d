"""A job folder as this package exports it: what it says, and a copy with a few values changed.

The changes are those that a person would make with an editor before `nvflare job submit`: rounds, uid, resume,
bundle overrides.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER_CONFIG = "config_fed_server.json"
CLIENT_CONFIG = "config_fed_client.json"
_CONTROLLER = "sitelora.flare.controller.FederationController"
_EXECUTOR = "sitelora.flare.executor.SiteExecutor"


class JobFolderError(ValueError):
    """A folder that is no job of SiteLoRA; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class JobFolder:
    """One job folder.

    Attributes:
        path: the folder. name: of the job.
        controller: the arguments of its controller.
    """

    path: Path
    name: str
    controller: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> JobFolder:
        """Read a job folder.

        Raises:
            JobFolderError: it is none, or its workflow is not SiteLoRA's.
        """
        meta = _read(path / "meta.json", path)
        servers = sorted(path.glob(f"*/config/{SERVER_CONFIG}"))
        if not servers:
            raise JobFolderError(
                f"{path}: found no */config/{SERVER_CONFIG}, expected a job folder such as jobs/iat_prostate"
            )
        args = _controller(_read(servers[0], path), servers[0])["args"]
        return cls(path=path, name=str(meta.get("name", path.name)), controller=args)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(sorted(self.controller["sites"]))

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return int(self.controller["rounds"])

    @property
    def federation(self) -> str:
        """Name of the federation."""
        return str(self.controller["federation"])

    @property
    def bundle(self) -> str:
        """Name of the bundle."""
        return str(self.controller["bundle"])

    @property
    def dataset(self) -> str:
        """Name of the sites' dataset."""
        return str(self.controller["dataset"])

    @property
    def overrides(self) -> Mapping[str, Any]:
        """Bundle values that the job sets."""
        return dict(self.controller.get("overrides") or {})

    @property
    def evaluates(self) -> bool:
        """Whether the models are scored after the last round."""
        return bool(self.controller.get("evaluate", True))

    def request(self, *, rounds: int | None, overrides: Mapping[str, Any], data: Path | None) -> str:
        """Return a hash of what a run of this job is asked to compute, by which the same request is known again."""
        total = hashlib.sha256()
        for path in sorted(path for path in self.path.rglob("*.json") if path.is_file()):
            total.update(f"{path.relative_to(self.path).as_posix()}|".encode() + path.read_bytes())
        asked = {"rounds": rounds, "overrides": dict(overrides), "data": str(data.absolute()) if data else None}
        total.update(json.dumps(asked, sort_keys=True).encode())
        return total.hexdigest()

    def edited(
        self,
        target: Path,
        *,
        rounds: int | None,
        overrides: Mapping[str, Any],
        uid: str,
        resume: bool,
        federation: str | None = None,
    ) -> JobFolder:
        """Write a copy of the job with these values and return it.

        Args:
            target: where the copy goes; what is there is replaced.
            rounds: None keeps the job's. overrides: added to the job's.
            uid: of the run. resume: go on with that uid.
            federation: its name; None keeps the job's.
        """
        named = {"federation": federation or self.federation}
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.path, target)
        for path in target.glob(f"*/config/{SERVER_CONFIG}"):
            config = _read(path, target)
            args = _controller(config, path)["args"]
            args.update(uid=uid, resume=resume, **named)
            if rounds is not None:
                args["rounds"] = rounds
            _add(args, overrides)
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for path in target.glob(f"*/config/{CLIENT_CONFIG}"):
            config = _read(path, target)
            for component in _components(config):
                if component["path"] == _EXECUTOR:
                    component.setdefault("args", {}).update(named)
                    _add(component["args"], overrides)
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return JobFolder.read(target)


def _add(args: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    if overrides:
        args["overrides"] = {**(args.get("overrides") or {}), **overrides}


def _components(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one["executor"] for one in config.get("executors", [])]


def _controller(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    workflows: list[dict[str, Any]] = list(config.get("workflows", []))
    for workflow in workflows:
        if workflow.get("path") == _CONTROLLER:
            return workflow
    found = ", ".join(str(one.get("path")) for one in workflows) or "none"
    raise JobFolderError(f"{path}: found the workflows {found}, expected {_CONTROLLER}; is this a job of SiteLoRA?")


def _read(path: Path, job: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JobFolderError(
            f"{job} is no job folder that SiteLoRA can run: {path.name}: {error}; expected one such as "
            "jobs/iat_prostate, with its files as JSON"
        ) from error
    if not isinstance(content, dict):
        raise JobFolderError(f"{path}: found {type(content).__name__}, expected a JSON object")
    return content
