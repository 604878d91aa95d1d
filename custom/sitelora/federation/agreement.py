"""What server and sites must agree on before anything is trained, and how a disagreement is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sitelora.data.site_entries import labels_key

MUST_AGREE = ("version", "bundle_sha256", "base_sha256", "initial_sha256", "labels", "seed")

Reports = Mapping[str, Mapping[str, Any]]
_SAME_INSTALLED = "install the same SiteLoRA version, bundle and base checkpoint at all of them"
_REMEDIES: Mapping[str, str] = {
    "labels": "give the label values the same names in the dataset.json of all of them",
    "seed": "let all of them read the same job",
}


def disagreements(reports: Reports) -> list[str]:
    """Return a line for everything that the reports, by site, do not say alike."""
    return [line for key in MUST_AGREE for line in _disagreement(key, reports)]


def remedies(reports: Reports) -> str:
    """Return what is to be done about the disagreements, each thing once."""
    on = [key for key in MUST_AGREE if _disagreement(key, reports)]
    return "; ".join(dict.fromkeys(_REMEDIES.get(key, _SAME_INSTALLED) for key in on))


def outvoted(reports: Reports, keys: Sequence[str] = MUST_AGREE) -> dict[str, list[str]] | None:
    """Return the sites that say something else than most do, with what it is about; None without a majority.

    Args:
        reports: by site. keys: what all must say alike.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for site, report in reports.items():
        groups.setdefault(tuple(_said(report, key) for key in keys), []).append(site)
    said, members = max(groups.items(), key=lambda group: len(group[1]))
    if 2 * len(members) <= len(reports):
        return None
    return {
        site: [key for key, expected in zip(keys, said, strict=True) if _said(report, key) != expected]
        for site, report in reports.items()
        if site not in members
    }


def other_jobs(agreed: Mapping[str, str], reports: Reports) -> list[str]:
    """Return a line for the sites that read another job than the server: a job that was edited at one side only.

    Args:
        agreed: the server's digests by key; empty where nobody compares. reports: by site.
    """
    differing: dict[str, list[str]] = {}
    for site, report in reports.items() if agreed else ():
        found = _digests(report)
        keys = sorted(key for key in {**agreed, **found} if found.get(key) != agreed.get(key))
        if keys:
            differing.setdefault(", ".join(keys), []).append(site)
    return [f"{keys} at {', '.join(sites)}" for keys, sites in sorted(differing.items())]


def changed_since(began: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for everything that may not change when a run goes on; rounds and sites may.

    A site sends a round that it has done again over today's wire: over another one it would be another answer.
    """
    changed = disagreements({"all sites now": now, "all sites when it began": began})
    before, after = _digests(began), _digests(now)
    both = {**before, **after} if before and after else {}
    keys = sorted(key for key in both if key.startswith("settings.") or key in ("aggregation", "wire"))
    return changed + [f"{key} has another value now" for key in keys if before.get(key) != after.get(key)]


def worth_saying(began: Reports, now: Reports, answered: Mapping[str, int] | None = None) -> list[str]:
    """Return what is no reason to refuse and changes what a resumed run means: other sites, other cases, a lost state.

    Args:
        began, now: reports by site. answered: the last round that each site has answered for.
    """
    said = [f"{site} was not there when the run began" for site in sorted(now.keys() - began.keys())]
    said += [f"{site} was there when the run began and is not now" for site in sorted(began.keys() - now.keys())]
    for site in sorted(now.keys() & began.keys()):
        before, after = began[site].get("cases"), now[site].get("cases")
        if before != after:
            said.append(f"{site} had the cases {before} when the run began and has {after} now")
        elif began[site].get("data_hmac") != now[site].get("data_hmac"):
            said.append(f"{site} has other cases or other masks than when the run began")
    for site, number in sorted((answered or {}).items()):
        last = now[site].get("last_round") if site in now else number
        if now.get(site, {}).get("local_count") and (last is None or last < number):
            has = "has no state of this run" if last is None else f"has no state after round {last + 1}"
            said.append(f"{site} answered for round {number + 1} and {has}: what it trained for itself is gone")
    return [f"resumed: {line}" for line in said]


def _digests(report: Mapping[str, Any]) -> dict[str, str]:
    found = report.get("agreed")
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _said(report: Mapping[str, Any], key: str) -> str:
    """Return what a report says, as it is compared: names of labels as `sitelora check` compares them."""
    found = report.get(key)
    if key == "labels" and isinstance(found, Mapping):
        found = labels_key(found)
    return str(found)


def _disagreement(key: str, reports: Reports) -> Sequence[str]:
    values: dict[str, list[str]] = {}
    for site, report in reports.items():
        values.setdefault(str(report.get(key)), []).append(site)
    if len({_said(report, key) for report in reports.values()}) <= 1:
        return []
    return [key + ": " + "; ".join(f"{value[:60]} at {', '.join(at)}" for value, at in sorted(values.items()))]
