"""Whether a site's policy allows a whole job: every rule that it breaks, with what was found and what is allowed.

The same judge at the desk (`sitelora policy check`), in NVFlare before a process is started and before anything is
built, and in the executor before each task. It only reads, and what it cannot read it refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitelora.bundle import bundle_names
from sitelora.declared import METHOD
from sitelora.federation.job import JOB_FILE, Job
from sitelora.federation.job_folder import CLIENT_CONFIG, MARKER, SERVER_CONFIG
from sitelora.federation.run_folder import AUDIT
from sitelora.guarantee import DELTA
from sitelora.policy.job_files import CONFIG, CUSTOM, LAUNCHER, JobFiles, named_classes, strange_keys
from sitelora.policy.site_policy import ANY_CODE, MARKER_ONLY, NO_CODE, OWN, JobRefusedError, Policy
from sitelora.sharing.accounting import AccountantMissingError, same_noise
from sitelora.value_kinds import SettingsError, short

_KNOWN = {f"{CONFIG}/{name}" for name in (CLIENT_CONFIG, SERVER_CONFIG, JOB_FILE)}


@dataclass(frozen=True)
class Reason:
    """Why a job is refused: the rule of the policy (or "job" for one that is none), and what was found."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


def judge(files: JobFiles, policy: Policy) -> list[Reason]:
    """Return every reason for which a policy refuses a job; none means that it is allowed."""
    reasons = [Reason("job", text) for text in files.wrong]
    reasons += _site_code(files, policy)
    reasons += _other_files(files, policy)
    reasons += _components(files, policy)
    try:
        job = Job.read(files.job_file)
    except SettingsError as error:
        return reasons if _says_nothing_of_jobs(policy) else [*reasons, Reason("job", str(error))]
    return [*reasons, *judge_values(job, policy, submitter=files.submitter)]


def judge_values(job: Job, policy: Policy, *, submitter: str) -> list[Reason]:
    """Return the reasons that lie in what a job says, whatever else it brings."""
    return list(_values(job, policy, submitter))


def refusal(files: JobFiles, policy: Policy) -> str:
    """Return in one sentence why a policy refuses a job, with every reason; empty where it is allowed."""
    reasons = judge(files, policy)
    return f"this site's policy ({policy.level}) refuses the job: {'; '.join(map(str, reasons))}" if reasons else ""


def require_allowed(files: JobFiles, policy: Policy) -> None:
    """Refuse a job that the policy does not allow.

    Raises:
        JobRefusedError: names every reason.
    """
    if why := refusal(files, policy):
        raise JobRefusedError(why)


def require_new_run(run: Path, site: str, policy: Policy) -> None:
    """Refuse one more run of a federation than the policy allows: every new uid would be a new budget of answers.

    A run counts from its first answer on; one that was refused has left a folder with the reason in it and no log.

    Args:
        run: the folder of this run, ``<home>/<federation>/<uid>``, whether it is there or not. site: name of the site.

    Raises:
        JobRefusedError: says how many there are.
    """
    if policy.most_runs is None or (run / site / AUDIT).exists():
        return
    others = len(list(run.parent.glob(f"*/{site}/{AUDIT}")))
    if others >= policy.most_runs:
        raise JobRefusedError(
            f"most_runs: {others} runs of {run.parent.name} are at this site already, allowed are {policy.most_runs}; "
            "resume one of them, or raise most_runs in the site's policy"
        )


def _site_code(files: JobFiles, policy: Policy) -> Iterator[Reason]:
    if policy.site_code == ANY_CODE:
        return
    found = files.custom()
    extra = [name for name in found or () if name != MARKER]
    if extra:
        yield Reason("site_code", f"{CUSTOM}/{extra[0]} ({len(extra)} files): this site runs no code of a job")
    elif found is not None and policy.site_code == NO_CODE:
        yield Reason(
            "site_code", f"there is a folder {CUSTOM}, by which NVFlare calls it code; `sitelora job` writes it without"
        )
    told = files.meta.get(LAUNCHER)
    if told:
        yield Reason("site_code", f"{LAUNCHER} is {short(told)}: a site starts its processes as it wants itself")


def _other_files(files: JobFiles, policy: Policy) -> Iterator[Reason]:
    if policy.other_files:
        return
    known = {*_KNOWN, f"{CUSTOM}/{MARKER}"} if policy.site_code == MARKER_ONLY else _KNOWN
    for name, link in files.files():
        if link:
            yield Reason("other_files", f"{name} is a link")
        elif name not in known and not name.startswith(f"{CUSTOM}/"):
            yield Reason("other_files", f"{name}: a job is {', '.join(sorted(_KNOWN))} and nothing else")


def _components(files: JobFiles, policy: Policy) -> Iterator[Reason]:
    if policy.components is None and policy.filters is None:
        return
    try:
        for file, content in files.configurations():
            for where, name, is_filter in named_classes(content):
                rule = "filters" if is_filter else "components"
                allowed = policy.filters if is_filter else policy.components
                if allowed is not None and name not in allowed:
                    yield Reason(rule, f"{file}, {where}: {name[:160]}, allowed are {', '.join(allowed) or 'none'}")
            for key in strange_keys(content):
                yield Reason("components", f"{file}: {key}; expected NVFlare's own parts and numbers")
    except ValueError as error:
        yield Reason("components", str(error))


def _values(job: Job, policy: Policy, submitter: str) -> Iterator[Reason]:
    for rule, found in (("bundles", job.bundle), ("federations", job.federation), ("datasets", job.dataset)):
        allowed = getattr(policy, rule)
        if allowed is not None and found not in allowed:
            yield Reason(rule, f"{short(found)}, allowed are {_listed(allowed)}")
    if policy.methods is not None and job.bundle in bundle_names():
        yield from _method(job, policy.methods)
    if policy.most_rounds is not None and job.rounds > policy.most_rounds:
        yield Reason("most_rounds", f"the job plans {job.rounds} rounds, allowed are {policy.most_rounds}")
    if policy.evaluation_by is not None and job.evaluate and submitter not in policy.evaluation_by:
        yield Reason(
            "evaluation_by",
            f"the job asks for scores of this site's test cases, submitted by {submitter or 'nobody by name'}; allowed "
            f"are {_listed(policy.evaluation_by)}",
        )
    largest = policy.largest_clip_norm
    if largest is not None and (job.clip_norm is None or job.clip_norm > largest):
        yield Reason("largest_clip_norm", f"the job's clip_norm is {job.clip_norm}, expected at most {largest:g}")
    if job.noise_std < policy.least_noise_std:
        yield Reason(
            "least_noise_std",
            f"the job's noise_std is {job.noise_std:g}, expected {policy.least_noise_std:g} times its clip_norm",
        )
    if policy.max_epsilon is not None and (why := _no_round_within(job, policy.max_epsilon)):
        yield Reason("max_epsilon", why)


def _no_round_within(job: Job, largest: float) -> str:
    """Return why not even one round of a job would keep within epsilon; the site's ledger counts all of them."""
    if not job.noise_std:
        return f"the job adds no noise, so no epsilon holds; allowed is {largest:g}"
    try:
        first = same_noise(job.noise_std, 1)
    except AccountantMissingError as error:
        return str(error)
    allowed = f"allowed is {largest:g}"
    return f"one round has epsilon {first:.4g} (delta {DELTA:g}), {allowed}" if first > largest else ""


def _method(job: Job, allowed: Sequence[str]) -> Iterator[Reason]:
    named = job.settings.get(METHOD)
    arguments = [key for key in job.settings if key.startswith(f"{METHOD}#")]
    if named is None and OWN in allowed and not arguments:
        return
    from sitelora.method_registry import own_name  # torch and MONAI, only where they are needed
    from sitelora.settings import own_method

    own = own_method(job.bundle)
    name = own if named is None else own_name(named) if isinstance(named, str) else short(named)
    if name not in allowed and not (OWN in allowed and name == own):
        yield Reason("methods", f"{name}, allowed are {_listed(allowed)} (the bundle's own is {own})")
    elif arguments and (why := _more_travels(job, arguments)):
        yield Reason("methods", f"{name}: {why}")


def _more_travels(job: Job, arguments: Sequence[str]) -> str:
    """Return what a method shares only by a job's arguments: the policy has agreed to its name, so to its defaults."""
    from sitelora.settings import read_settings

    module = str(job.settings.get(METHOD, "")).rpartition(".")[0]
    usual = {key: value for key, value in job.settings.items() if key not in arguments}
    try:
        asked, agreed = (
            read_settings(job.bundle, values, sites=job.sites, own_methods=(module,)).method
            for values in (job.settings, usual)
        )
    except ValueError as error:
        return str(error)
    more = {*asked.share.shared, *asked.program.companions} - {*agreed.share.shared, *agreed.program.companions}
    if not more:
        return ""
    named = ", ".join(sorted(more)[:3]) + (" and more" if len(more) > 3 else "")
    return (
        f"with {', '.join(arguments)} {named} would travel, which without arguments stay; a method's name in the "
        "policy stands for what it shares by default"
    )


def _listed(allowed: Sequence[str]) -> str:
    return ", ".join(allowed) or "none, because this site's policy names none yet"


def _says_nothing_of_jobs(policy: Policy) -> bool:
    """Say whether a job of another framework may run: no rule speaks of what only a SiteLoRA job says."""
    return policy.components is None and policy.bundles is None and policy.federations is None
