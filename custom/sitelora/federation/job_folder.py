"""A job folder as this package writes it: what it says, and the refusal of whatever else may stand in one.

A job is four files: NVFlare's own three, which are the same for every job but for its name and its sites, and
``app/config/sitelora.json``, which says everything. NVFlare builds objects from what stands in its two configurations,
so any other component, filter or argument there would be code that somebody else chose.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sitelora.disk import below
from sitelora.federation.job import JOB_FILE, Job, read_job_json
from sitelora.federation.run_folder import SERVER
from sitelora.federation.task_names import TASKS
from sitelora.value_kinds import SettingsError, short

APP = "app"
MARKER = "README.md"
SERVER_CONFIG = "config_fed_server.json"
CLIENT_CONFIG = "config_fed_client.json"
SECONDS_BETWEEN_REQUESTS = 0.5
"""How long a site waits before it asks for its next task; NVFlare's default of 2 s is idle time in every round."""

_MARKER_TEXT = """\
No code is in this folder. NVFlare lets a job use classes that are not its own only if the job has a custom folder,
and git keeps no empty one. SiteLoRA itself is installed at every site. Sites that list its two classes in the
class_allow_list of their local/resources.json take jobs without this folder, which `sitelora job` writes.
"""
CONTROLLER = "sitelora.flare.controller.FederationController"
EXECUTOR = "sitelora.flare.executor.SiteExecutor"
"""The two classes that a job names, and all that a site has to allow."""
_EMPTY: Mapping[str, list[Any]] = {"components": [], "task_data_filters": [], "task_result_filters": []}
_ON_SERVER: Mapping[str, Any] = {
    "format_version": 2,
    "workflows": [{"id": "federation", "path": CONTROLLER, "args": {}}],
    **_EMPTY,
    "server": {"task_request_interval": SECONDS_BETWEEN_REQUESTS},
}
_AT_SITES: Mapping[str, Any] = {
    "format_version": 2,
    "executors": [{"tasks": list(TASKS), "executor": {"path": EXECUTOR, "args": {}}}],
    **_EMPTY,
}
_META = ("name", "resource_spec", "min_clients", "deploy_map")


class JobFolderError(ValueError):
    """A folder that is no job of SiteLoRA, or more than one; the message says what is wrong."""


@dataclass(frozen=True, kw_only=True)
class JobFolder:
    """One job folder.

    Attributes:
        path: the folder. name: of the job. job: what it says.
    """

    path: Path
    name: str
    job: Job

    @classmethod
    def read(cls, path: Path) -> JobFolder:
        """Read a job folder.

        Raises:
            JobFolderError: it is none, or it holds anything beside what this package writes.
        """
        meta = _read(path / "meta.json", path)
        apps = sorted(found.parent.parent for found in path.glob(f"*/config/{SERVER_CONFIG}"))
        if len(apps) != 1:
            raise JobFolderError(
                f"{path}: found {len(apps)} apps with config/{SERVER_CONFIG}, expected one for the server and all "
                "sites, in a job folder such as jobs/iat_prostate"
            )
        _require_ours(path, apps[0])
        try:
            job = Job.read(apps[0] / "config" / JOB_FILE)
        except SettingsError as error:
            raise JobFolderError(f"{path}: {error}") from error
        _require_meta(path, meta, apps[0].name, job)
        return cls(path=path, name=str(meta.get("name", path.name)), job=job)

    @classmethod
    def write(cls, job: Job, path: Path, *, marker: bool) -> JobFolder:
        """Write a job and return its folder; an older one there is replaced.

        Args:
            job: what it says. path: the folder.
            marker: with ``app/custom``, which NVFlare's simulator needs. NVFlare calls such a job one with site code,
                so sites that allow none refuse it: they list the two classes instead.
        """
        shutil.rmtree(path, ignore_errors=True)
        config = path / APP / "config"
        config.mkdir(parents=True)
        # min_clients is what NVFlare itself insists on while the job runs, so a round may go on without a site.
        meta = {
            "name": job.federation,
            "resource_spec": {},
            "min_clients": job.min_sites,
            "deploy_map": {APP: [SERVER, *job.sites]},
        }
        _write(path / "meta.json", meta)
        _write(config / SERVER_CONFIG, _ON_SERVER)
        _write(config / CLIENT_CONFIG, _AT_SITES)
        _write(config / JOB_FILE, job.to_json())
        if marker:
            (path / APP / "custom").mkdir()
            (path / APP / "custom" / MARKER).write_text(_MARKER_TEXT, encoding="utf-8")
        return cls(path=path, name=job.federation, job=job)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(sorted(self.job.sites))

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return self.job.rounds

    @property
    def federation(self) -> str:
        """Name of the federation."""
        return self.job.federation

    @property
    def evaluates(self) -> bool:
        """Whether the models are scored after the last round."""
        return self.job.evaluate

    def request(self, job: Job, *, data: Path | None) -> str:
        """Return a hash of what a run of this job is asked to compute, by which the same request is known again.

        Args:
            job: as it would be run. data: root of the site folders, where one is named.
        """
        asked = {**replace(job, uid="", resume=False).to_json(), "data": str(data.absolute()) if data else None}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def edited(self, target: Path, job: Job) -> JobFolder:
        """Write a copy for NVFlare's simulator that says something else, as a person would with an editor.

        Args:
            target: where the copy goes; what is there is replaced.
        """
        return JobFolder.write(job, target, marker=True)


def _require_ours(job: Path, app: Path) -> None:
    """Refuse every file, component, filter and argument that this package does not write."""
    allowed = {"config": {SERVER_CONFIG, CLIENT_CONFIG, JOB_FILE}, "custom": {MARKER}}
    files = {f"{app.name}/{folder}/{name}" for folder, names in allowed.items() for name in names}
    for found in below(job):
        name = found.relative_to(job).as_posix()
        if found.is_symlink() or (not found.is_dir() and name not in {*files, "meta.json"}):
            raise JobFolderError(
                f"{job}: found {name}, expected nothing but NVFlare's configuration and {JOB_FILE}: a job brings no "
                "code and no file of its own"
            )
    for file, ours in ((SERVER_CONFIG, _ON_SERVER), (CLIENT_CONFIG, _AT_SITES)):
        content = _read(app / "config" / file, job)
        for key, value in content.items():
            expected = ours.get(key)
            number = isinstance(value, int | float) and key not in ours  # NVFlare's own timeouts
            if key == "server" and isinstance(value, dict):
                number = list(value) == list(ours["server"]) and isinstance(value["task_request_interval"], int | float)
            if value != expected and not number:
                raise JobFolderError(
                    f"{job}, {file}: found {_difference(key, value, expected)}; this job would run something else than "
                    f"SiteLoRA. What a job says stands in config/{JOB_FILE}"
                )
        missing = [key for key in ("workflows", "executors") if key in ours and key not in content]
        if missing:
            raise JobFolderError(f"{job}, {file}: found no {missing[0]}, expected {short(ours[missing[0]])}")


def _difference(where: str, found: Any, expected: Any) -> str:
    """Return the first place in which two JSON values differ, in words."""
    if isinstance(found, dict) and isinstance(expected, dict):
        key = next(key for key in {**expected, **found} if found.get(key, ...) != expected.get(key, ...))
        return _difference(f"{where}, {short(key)[1:-1]}", found.get(key), expected.get(key))
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        one, other = next(pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1])
        return _difference(where, one, other)
    return f"{where}: {short(found)}, expected {'nothing' if expected is None else short(expected)}"


def _require_meta(path: Path, meta: Mapping[str, Any], app: str, job: Job) -> None:
    deployed = meta.get("deploy_map")
    wanted = sorted([SERVER, *job.sites])
    places = deployed.get(app) if isinstance(deployed, dict) and list(deployed) == [app] else None
    if not isinstance(places, list) or sorted(map(str, places)) != wanted:
        raise JobFolderError(
            f"{path}, meta.json: found the deploy_map {short(deployed)}, expected {app} for {', '.join(wanted)}, the "
            f"sites in config/{JOB_FILE}"
        )
    unknown = sorted(meta.keys() - {*_META, "mandatory_clients"})
    if unknown:
        raise JobFolderError(f"{path}, meta.json: found {', '.join(unknown)}, expected {', '.join(_META)}")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read(path: Path, job: Path) -> dict[str, Any]:
    if not job.is_dir():
        raise JobFolderError(
            f"found no folder {job}, expected a job folder such as jobs/iat_prostate; `sitelora job` lists the jobs "
            "that there are and writes one"
        )
    try:
        content = read_job_json(path)
    except ValueError as error:
        raise JobFolderError(
            f"{job} is no job folder that SiteLoRA can run: {path.name}: {error}; expected one such as "
            "jobs/iat_prostate, with its files as JSON"
        ) from error
    if not isinstance(content, dict):
        raise JobFolderError(f"{path}: found {type(content).__name__}, expected a JSON object")
    return content
