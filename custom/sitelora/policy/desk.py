"""What a policy would do with a job folder that nobody has submitted yet."""

from __future__ import annotations

from pathlib import Path

from sitelora.bundle import PUBLISHED, BundleNotFoundError
from sitelora.federation.job import Job
from sitelora.policy.job_files import JobFiles
from sitelora.policy.judge import Reason, judge
from sitelora.policy.site_policy import Policy
from sitelora.value_kinds import SettingsError


def judge_folder(folder: Path, policy: Policy, *, submitter: str = "") -> list[Reason]:
    """Return every reason for which a site of this policy would refuse a job folder; none means that it is allowed.

    Beside the policy's own rules it says what the installed bundle would refuse, as every site does before it trains.

    Args:
        folder: of the job. policy: of the site. submitter: who would submit it, as NVFlare knows her.
    """
    reasons: list[Reason] = []
    for files in JobFiles.in_folder(folder, submitter=submitter):
        reasons += judge(files, policy)
        try:
            Job.read(files.job_file).run_settings()
        except (SettingsError, BundleNotFoundError) as error:
            reasons.append(Reason("job", str(error)))
    return list(dict.fromkeys(reasons))


def judged_at_the_site(folder: Path, policy: Policy) -> list[str]:
    """Return the rules that a desk cannot judge, because what they are about lies at the site.

    Args:
        folder: of the job. policy: of the site.
    """
    if policy.bases is None:
        return []
    named = False
    for files in JobFiles.in_folder(folder):
        try:
            named |= "base" in Job.read(files.job_file).settings
        except SettingsError:
            continue
    return ["bases"] if named or PUBLISHED not in policy.bases else []
