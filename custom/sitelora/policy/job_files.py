"""What a job brings to a site, read as NVFlare would deploy it and as strictly as anything that strangers wrote.

NVFlare builds an object from every dictionary with ``path``, ``class_path`` or ``name``, at any depth of a component's
arguments; it finds a configuration by its name without the ending, in folders below too; and it puts
``app/custom`` on the search path of the process before any component is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitelora.disk import below
from sitelora.federation.job import JOB_FILE, read_job_json
from sitelora.federation.job_folder import CLIENT_CONFIG, SERVER_CONFIG

CONFIG, CUSTOM = "config", "custom"
SUBMITTER, LAUNCHER = "submitter_name", "launcher_spec"
"""Keys of a deployed job's meta: who handed it in (the server's word), and how its process is to be started."""
_NAMES_A_CLASS = ("path", "class_path", "name")
_SIGNATURES = (".__nvfl_sig.json", ".__nvfl_submitter.crt")
"""What NVFlare puts into every folder of a job that is handed in with a kit; it reads them as signatures only."""
_FILTERS = ("task_data_filters", "task_result_filters")
_KEYS = ("format_version", "executors", "workflows", "components", "server", *_FILTERS)


@dataclass(frozen=True, kw_only=True)
class JobFiles:
    """One app of a job, as it lies at a site or on a desk.

    Attributes:
        app: its folder. meta: what NVFlare knows of the job: who submitted it, how it is started.
        wrong: what could not be read at all.
    """

    app: Path
    meta: Mapping[str, Any] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()

    @classmethod
    def at_site(cls, app: Path, meta: Path) -> JobFiles:
        """Return the app that NVFlare has deployed; ``meta`` is missing in its simulator's older forms."""
        content, wrong = _meta_of(meta) if meta.is_file() else ({}, ())
        return cls(app=app, meta=content, wrong=wrong)

    @classmethod
    def in_folder(cls, job: Path, *, submitter: str = "") -> list[JobFiles]:
        """Return every app that a job folder would bring to some site; one for a folder that can be no job.

        Args:
            job: as it is handed in. submitter: who would hand it in.
        """
        content, wrong = _meta_of(job / "meta.json")
        told = {**content, SUBMITTER: submitter}
        deployed = content.get("deploy_map")
        names = list(deployed) if isinstance(deployed, Mapping) else []
        apps = [
            job / name for name in names if isinstance(name, str) and (job / name).resolve().parent == job.resolve()
        ]
        if wrong or not apps or len(apps) < len(names):
            text = wrong or (f"meta.json: deploy_map is no list of apps of this folder: {str(names)[:80]}",)
            return [cls(app=apps[0] if apps else job / "app", meta=told, wrong=text)]
        places = deployed if isinstance(deployed, Mapping) else {}
        return [cls(app=app, meta=told) for app in apps if not _only_server(places.get(app.name))]

    @property
    def submitter(self) -> str:
        """Who submitted it, empty where nobody knows."""
        found = self.meta.get(SUBMITTER, "")
        return found if isinstance(found, str) else ""

    @property
    def job_file(self) -> Path:
        """Where the job says everything."""
        return self.app / CONFIG / JOB_FILE

    def files(self) -> Iterator[tuple[str, bool]]:
        """Yield every entry but folders and signatures by its path within the app, and whether it is a link."""
        for found in below(self.app):
            signature = found.name in _SIGNATURES and found.is_file()
            if found.is_symlink() or not (found.is_dir() or signature):
                yield found.relative_to(self.app).as_posix(), found.is_symlink()

    def custom(self) -> list[str] | None:
        """Return what is in ``app/custom``, None where there is no such entry."""
        folder = self.app / CUSTOM
        if folder.is_symlink():
            return ["a link to elsewhere"]
        if not folder.exists():
            return None
        return [name.partition("/")[2] for name, _ in self.files() if name.startswith(f"{CUSTOM}/")]

    def configurations(self) -> Iterator[tuple[str, Any]]:
        """Yield NVFlare's configurations in this app: file name and content.

        Raises:
            ValueError: one is not plain JSON, or NVFlare might read another file in its place.
        """
        for name in (CLIENT_CONFIG, SERVER_CONFIG):
            stem = Path(name).stem
            found = [one for one, _ in self.files() if Path(one).name.split(".")[0] == stem]
            if found not in ([f"{CONFIG}/{name}"], []):
                raise ValueError(
                    f"found {', '.join(found)}: NVFlare may read any of them, expected {CONFIG}/{name} alone"
                )
            if found:
                yield name, read_job_json(self.app / CONFIG / name)
            elif name == CLIENT_CONFIG:
                raise ValueError(f"found no {CONFIG}/{name}, expected one: no site could run this job")


def named_classes(content: Any) -> Iterator[tuple[str, str, bool]]:
    """Yield what a configuration would build: where, the class, and whether as a filter.

    Whatever could name a class counts, wherever it stands; a name that is no text comes as its JSON, so that it equals
    no class.
    """
    if not isinstance(content, Mapping):
        yield "the whole file", f"a {type(content).__name__}", False
        return
    for key, inner in content.items():
        yield from _classes(inner, key, is_filter=key in _FILTERS)


def strange_keys(content: Any) -> Iterator[str]:
    """Yield what a configuration says at its top that is neither one of NVFlare's parts nor a number (a timeout)."""
    for key, value in content.items() if isinstance(content, Mapping) else ():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key not in _KEYS and not number:
            yield f"{key}: {str(value)[:80]}"


def _classes(value: Any, where: str, *, is_filter: bool) -> Iterator[tuple[str, str, bool]]:
    if isinstance(value, Mapping):
        for key in _NAMES_A_CLASS:
            if key in value:
                named = value[key] if isinstance(value[key], str) else json.dumps(value[key])
                # A short name is looked up in all of NVFlare's modules, so it equals no full one.
                yield where, named if key != "name" else f"{named} (a short name)", is_filter
        for key, inner in value.items():
            yield from _classes(inner, f"{where}, {key}", is_filter=is_filter)
    elif isinstance(value, list):
        for place, inner in enumerate(value, start=1):
            yield from _classes(inner, f"{where} {place}", is_filter=is_filter)


def _meta_of(path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    try:
        content = read_job_json(path)
    except ValueError as error:
        return {}, (f"meta.json: {error}",)
    return (content, ()) if isinstance(content, Mapping) else ({}, (f"meta.json: found {type(content).__name__}",))


def _only_server(places: Any) -> bool:
    return isinstance(places, list) and set(map(str, places)) == {"server"}
