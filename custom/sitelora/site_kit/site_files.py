"""What stands in a kit's ``local/`` folder, derived from the participant's own ``local/sitelora.json``.

That file says home, data and policy and is the participant's. The others follow from it: NVFlare's ``resources.json``
with the judge of jobs and the classes that a job may name, by full name and in place of NVFlare's own 88; no code in
any job; the last word on what leaves. Nothing here is written, so that one can also compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sitelora.disk import GIVE_RIGHT, is_closed
from sitelora.federation.job_folder import CONTROLLER, EXECUTOR
from sitelora.policy.site_policy import Policy
from sitelora.site_kit.startup_kit import SERVER, KitError, StartupKit

OWN, RESOURCES, AUTHORIZATION, PRIVACY = "sitelora.json", "resources.json", "authorization.json", "privacy.json"
JUDGE = {"id": "sitelora_judge", "path": "sitelora.flare.job_judge.JobJudge", "args": {}}
STORAGE = "storage"
"""Where a server keeps jobs and snapshots, in its kit; NVFlare's default is one folder for all servers of a machine."""
_TEMPLATES = Path(__file__).parent / "templates"


def template(name: str) -> str:
    """Return a shipped file."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def own_file(
    *, home: Path, data: Path | None, level: str | None, rules: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a new ``sitelora.json``.

    Args:
        home: where state is kept. data: root of the site folders. level: of the policy, None for none.
        rules: of the policy, in place of the level's. settings: bundle values that the site chooses itself.

    Raises:
        PolicyError: there is no such level, or a rule says what cannot be.
    """
    told: dict[str, Any] = {"home": str(home.absolute())}
    if data is not None:
        told["data"] = str(data.absolute())
    if settings:
        told["settings"] = dict(settings)
    if level is not None:
        Policy.of_level(level, rules)
        told["policy"] = {"level": level, **rules}
    return told


def classes(policy: Policy) -> list[str]:
    """Return the classes that NVFlare lets a job name: SiteLoRA's two, and what the policy names beside them."""
    return list(dict.fromkeys([CONTROLLER, EXECUTOR, *(policy.components or ()), *(policy.filters or ())]))


def resources(kit: StartupKit, policy: Policy) -> dict[str, Any]:
    """Return ``resources.json`` of a kit: the one that is there, or NVFlare's default, with what SiteLoRA needs in it.

    Raises:
        KitError: neither can be read.
    """
    content = dict(_present(kit))
    # With log streaming on, NVFlare adds a class to every job, and sends a site's error log, which may name a file.
    content.update(class_list_enforcement_mode="enforce", class_allow_list=classes(policy), allow_log_streaming=False)
    others = [one for one in content.get("components", []) if one.get("id") != JUDGE["id"]]
    content["components"] = [*others, JUDGE]
    if kit.kind == SERVER:
        _keep_storage_inside(kit, content)
    return content


def expected(kit: StartupKit, policy: Policy) -> dict[str, dict[str, Any]]:
    """Return every file that follows from the participant's own, by name."""
    files = {RESOURCES: resources(kit, policy), AUTHORIZATION: json.loads(template(AUTHORIZATION))}
    if kit.kind != SERVER:
        files[PRIVACY] = json.loads(template(PRIVACY))
    return files


def read_file(file: Path) -> dict[str, Any]:
    """Read one of these files.

    Raises:
        KitError: it is not a JSON object.
    """
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        remedy = GIVE_RIGHT if is_closed(file, error) else "correct it, or remove it"
        raise KitError(f"{file}: {getattr(error, 'strerror', None) or error}; {remedy}") from error
    if not isinstance(content, dict):
        raise KitError(f"{file}: found a {type(content).__name__}, expected a JSON object; correct it, or remove it")
    return content


def _present(kit: StartupKit) -> Mapping[str, Any]:
    own = kit.local / RESOURCES
    return read_file(own if own.is_file() else _default(kit))


def _default(kit: StartupKit) -> Path:
    return kit.local / f"{RESOURCES}.default"


def _keep_storage_inside(kit: StartupKit, content: dict[str, Any]) -> None:
    """Put jobs and snapshots into the server's own folder where they are still at NVFlare's default."""
    shipped = read_file(_default(kit))
    for keys, name in ((_SNAPSHOTS, "snapshots"), (_JOBS, "jobs")):
        place, usual = _find(content, keys), _find(shipped, keys)
        if place is None or usual is None:
            raise KitError(
                f"{kit.local}: {RESOURCES} says no {' '.join(map(str, keys))}, expected it as NVFlare 2.9 has it; take "
                f"{RESOURCES}.default from the kit again"
            )
        if place[keys[-1]] == usual[keys[-1]]:
            place[keys[-1]] = str(kit.path / STORAGE / name)


_SNAPSHOTS = ("snapshot_persistor", "args", "storage", "args", "root_dir")
_JOBS = ("components", "job_manager", "args", "uri_root")


def _find(content: Any, keys: Sequence[str]) -> dict[str, Any] | None:
    """Return what holds the last key; a component is found by its id."""
    for key in keys[:-1]:
        if isinstance(content, list):
            content = next((one for one in content if isinstance(one, dict) and one.get("id") == key), None)
        else:
            content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) and keys[-1] in content else None
