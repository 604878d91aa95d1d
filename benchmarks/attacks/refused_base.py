"""What stands between a site and a base that it did not choose: each check is run, and what it does not refuse is said.

Used by ``imprint.py``, whose malicious base is tried here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import by_hand

from sitelora.federation.coordinator import Coordinator
from sitelora.federation.job import Job
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteError
from sitelora.policy.site_policy import Policy

BUNDLE = "iat_segmentation"
SITES = ("site-1", "site-2", "site-3")
VALUES: dict[str, Any] = {"image_size": 64, "epochs": 1, "slices": 1, "precision": "fp32"}


def checks(malicious: Path, data: Path, home: Path) -> dict[str, str]:
    """Return what became of every way to bring a base, or a message, that a site did not choose.

    Args:
        malicious: checkpoint of the malicious base. data: root of the folders of three sites. home: empty.

    Returns:
        By what was tried: ``refused: `` and by whom and why, or ``NOT refused`` and what happened.
    """
    cases: dict[str, Callable[[Path, Path, Path], str]] = {
        "another base at one site of three, honest server": at_one_site,
        "another base in a run that has begun": in_a_run,
        "the job names a base that the site does not have": not_there,
        "the job names another base than the site has set for itself": sites_own,
        "the same malicious base at every site": everywhere,
        "the same, and each site's policy lists its bases (level strict)": listed,
    }
    return {name: case(malicious, data, home / str(number)) for number, (name, case) in enumerate(cases.items())}


def at_one_site(malicious: Path, data: Path, home: Path) -> str:
    _, left_out = begin(data, home, {SITES[1]: str(malicious)})
    if "base_sha256" in left_out.get(SITES[1], ""):
        return f"refused: the server leaves {SITES[1]} out by name, base_sha256 differs from that of most sites"
    return "NOT refused"


def everywhere(malicious: Path, data: Path, home: Path) -> str:
    _, left_out = begin(data, home, dict.fromkeys(SITES, str(malicious)))
    return (
        f"refused: {left_out}" if left_out else "NOT refused: all hashes agree; they say that it is one base, not whose"
    )


def listed(malicious: Path, data: Path, home: Path) -> str:
    allowed = Policy.of_level("strict").bases
    member(SITES[0], data, home, job(), "embedded", bases=allowed)
    try:
        member(SITES[0], data, home, job(str(malicious)), None, bases=allowed)
    except SiteError as error:
        return f"refused: by the site, {error.code}, before anything is built"
    return "NOT refused"


def in_a_run(malicious: Path, data: Path, home: Path) -> str:
    coordinator, _ = begin(data, home, {})
    message = coordinator.message_for(SITES[0])
    member(SITES[0], data, home, job(), "embedded").train(0, message)
    try:
        member(SITES[0], data, home, job(), str(malicious)).train(1, message)
    except Exception as error:
        return f"refused: by the site, {getattr(error, 'code', type(error).__name__)}"
    return "NOT refused"


def not_there(malicious: Path, data: Path, home: Path) -> str:
    absent = home / "absent.pth"
    try:
        member(SITES[0], data, home, job(str(absent)), None)
    except FileNotFoundError:
        return "refused: by the site, base_missing"
    return "NOT refused"


def sites_own(malicious: Path, data: Path, home: Path) -> str:
    moved = home / "handed_out.pth"
    moved.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(malicious, moved)
    own = member(SITES[0], data, home, job(), "embedded").network.base_fingerprint
    with_job = member(SITES[0], data, home, job(str(moved)), "embedded").network.base_fingerprint
    without = member(SITES[0], data, home, job(str(moved)), None).network.base_fingerprint
    if with_job == own != without:
        return "refused: the site's own base is taken; a site that has set none takes the job's"
    return "NOT refused: the job's base is taken"


def job(base: str | None = None) -> Job:
    settings = VALUES if base is None else {**VALUES, "base": base}
    return Job(
        federation="base", uid="u", bundle=BUNDLE, dataset="prostate", sites=SITES, rounds=2, min_sites=2,
        settings=settings,
    )  # fmt: skip


def member(
    site: str, data: Path, home: Path, asked: Job, base: str | None, *, bases: Sequence[str] | None = None
) -> Site:
    """Return a site; ``base`` is what it has set for itself, ``bases`` what its policy allows."""
    own = {} if base is None else {"base": base}
    return by_hand.member(asked, site, data=data, home=home, site_values=own, bases=bases)


def begin(data: Path, home: Path, bases: dict[str, str]) -> tuple[Coordinator, Mapping[str, str]]:
    """Return a server after begin and which of three sites it left out and why, some with bases of their own."""
    asked = job()
    coordinator = by_hand.server(asked, home)
    members = {site: member(site, data, home, asked, bases.get(site, "embedded")) for site in SITES}
    return coordinator, by_hand.begin(coordinator, members)
