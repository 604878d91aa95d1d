"""The page for an ethics board: facts of a job by name, and the words that never change around them, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sitelora.commands._egress_text import group_rows, still_text
from sitelora.egress import EgressStatement
from sitelora.federation.job import Job
from sitelora.policy.judge import Reason
from sitelora.policy.site_policy import Policy
from sitelora.policy.words import rule_text, rules
from sitelora.report.format_values import bytes_text, count_text, listed
from sitelora.sharing.accounting import AccountantMissingError, rounds_within

_NUMBERS = (
    "Numbers and names, without any noise: the hospital's name, label names, case counts, training loss, validation "
    "scores of every round, software and hardware, and after the last round, of every test case under a number, "
    "{leaves}. The names of cases and patients stay."
)
_STAYS = (
    "{stays}, local tensors ({local}), the optimiser's state, the models, the hospital's own secret. Nothing in a job "
    "asks for them, and the hospital's own software would refuse."
)
_NOT_PROMISED = (
    "Tensors are made from patients' data and can reveal some of it. That they are few and hold no image is no proof; "
    "attacks on such tensors are published.",
    "Epsilon, where there is one, is about the hospital as a whole. There is none for a single patient: nothing is "
    "clipped by case.",
    "Epsilon counts the tensors. The numbers beside them are not in it.",
    "The server sees each hospital's update by itself: no secure aggregation, and no homomorphic encryption, which "
    "NVFlare has for averaging jobs of its own and this software does not use.",
    "The noise is Gaussian in floating-point numbers, from a secure stream under the hospital's secret; attacks on the "
    "last bits of such numbers (Mironov 2012) are not ruled out.",
    "A trained model can remember its training data: it is to be treated as the data are.",
)
_CHECK = (
    "`sitelora audit verify RUN` lists every tensor that left, from a log that nobody can change unnoticed.",
    "`sitelora policy check JOB --policy local/sitelora.json` says what the hospital's policy does with this job.",
    "`sitelora egress BUNDLE` lists every tensor by name.",
)


def facts(job: Job, statement: EgressStatement, policy: Policy | None, reasons: Sequence[Reason]) -> dict[str, Any]:
    """Return everything that the page says of this job, as plain values.

    Args:
        job: that is asked for. statement: of its bundle, with its rounds, sites and wire.
        policy: the hospital's, None where it is not known. reasons: for which it refuses the job.
    """
    privacy = statement.privacy
    return {
        "federation": job.federation,
        "bundle": job.bundle,
        "method": statement.method,
        "paper": statement.paper,
        "dataset": job.dataset,
        "sites": list(job.sites),
        "rounds": job.rounds,
        "evaluate": job.evaluate,
        "version": statement.version,
        "leaves": group_rows(statement, "shared"),
        "tensors": len(statement.of_kind("shared")),
        "companions": list(statement.companions),
        "begin_bytes_up": statement.begin_bytes_up,
        "bytes_up": list(statement.bytes_up),
        "total_bytes_up": statement.total_bytes_up,
        "local_tensors": len(statement.of_kind("local")),
        "frozen_tensors": len(statement.of_kind("frozen")),
        "case_leaves": statement.case_leaves if job.evaluate else "nothing, as this job scores no test case",
        "case_stays": statement.case_stays,
        "travels": statement.travels,
        "still": still_text(statement),
        "privacy": asdict(privacy),
        "guarantee": privacy.words,
        "policy": None if policy is None else _of_policy(policy, statement, reasons),
    }


def _of_policy(policy: Policy, statement: EgressStatement, reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "level": policy.level,
        "rules": {rule: rule_text(policy, rule) for rule in rules()},
        "refused": [str(one) for one in reasons],
        "budget": _budget(policy, statement),
    }


def _budget(policy: Policy, statement: EgressStatement) -> str:
    """Return after how many rounds the hospital's budget ends, if it has spent nothing before."""
    told = statement.privacy
    if policy.max_epsilon is None:
        return "The policy sets no largest epsilon (`max_epsilon`)."
    allowed = f"The policy allows epsilon {policy.max_epsilon:g}"
    if not told.releases:
        return f"{allowed}; nothing that is trained leaves."
    if not told.noise_multiplier:
        return f"{allowed}; without noise no answer leaves."
    each = told.releases // told.rounds
    try:
        rounds = rounds_within(policy.max_epsilon, told.noise_multiplier, each=each, most=told.rounds)
    except AccountantMissingError as error:
        return f"{allowed}; {error}."
    if rounds == told.rounds:
        return f"{allowed}: enough for all {told.rounds} rounds, if nothing was spent on these data before."
    return (
        f"{allowed}: the hospital stops after {count_text(rounds, 'round')} of {told.rounds}, and earlier if something "
        "was spent on these data before."
    )


def page(told: Mapping[str, Any]) -> str:
    """Return the page, in Markdown, from ``facts``."""
    rounds, sites = count_text(told["rounds"], "round"), count_text(len(told["sites"]), "hospital")
    low, high = min(told["bytes_up"]), max(told["bytes_up"])
    each = bytes_text(low) if low == high else f"{bytes_text(low)} to {bytes_text(high)}"
    companions = f", with the method's companions {listed(told['companions'])}" if told["companions"] else ""
    lines = [
        f"# What the federation {told['federation']} takes from a hospital",
        "",
        f"Job: bundle `{told['bundle']}`, method {told['method']} ({told['paper']}), data set {told['dataset']}, "
        f"{rounds}, {sites}: {', '.join(told['sites'])}. SiteLoRA {told['version']}, for research; no medical device.",
        "",
        "## What leaves",
        "",
        "| tensors | number | values | bytes a round |",
        "| --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in told["leaves"]),
        "",
        f"Each hospital sends {each} a round{companions}, {bytes_text(told['total_bytes_up'])} in {rounds}; of that "
        f"{bytes_text(told['begin_bytes_up'])} once before the first round, seeded values that hold no data. What "
        "leaves in a round is the difference that training made to these tensors, and never an image.",
        "",
        _NUMBERS.format(leaves=told["case_leaves"]),
        "",
        "## What stays",
        "",
        _STAYS.format(stays=told["case_stays"].capitalize(), local=told["local_tensors"]),
        "",
        "## What protects it, in this order",
        "",
        *(f"{number}. {text}" for number, text in enumerate(_protections(told), start=1)),
        "",
        "## What the noise is worth",
        "",
        " ".join(told["guarantee"]),
        "",
        "## What is not promised",
        "",
        *(f"- {text}" for text in _NOT_PROMISED),
        "",
        "## Who decides at the hospital",
        "",
        *_deciding(told["policy"]),
        "",
        "## How to check it",
        "",
        *(f"- {text}" for text in _CHECK),
    ]
    return "\n".join(lines) + "\n"


def _protections(told: Mapping[str, Any]) -> list[str]:
    privacy = told["privacy"]
    clip, noise = privacy["clip_norm"], privacy["noise_multiplier"]
    clipped = f"The whole update is scaled to a norm of at most {clip:g}" if clip else "This job clips no update"
    added = (
        f"; Gaussian noise of {noise:g} times that ({noise * clip:g}) is added to every value, from a stream that only "
        "the hospital's secret can repeat"
        if noise
        else " and adds no noise"
        if not clip
        else "; no noise is added"
    )
    return [
        "Allow-list: exactly the tensors above, by name, shape and type; anything else holds the whole answer back.",
        "Schema: the numbers beside them have known names and bounds; errors leave as a code, never as text.",
        f"Clip and noise. {clipped}{added}. {' '.join(told['still'])}".strip(),
        f"Values leave as {told['travels']}.",
        "Bounds of the hospital's own policy: norm, bytes, number of answers, and the largest epsilon, if it sets one.",
        "Audit: every tensor that leaves is a line of a log at the hospital, in a chain under its secret.",
    ]


def _deciding(policy: Mapping[str, Any] | None) -> list[str]:
    words = (
        "The hospital's security officer, by the policy in its `local/sitelora.json`. No job can change it, and the "
        "hospital's own software holds it before every round; the hospital can leave the federation at any time."
    )
    if policy is None:
        return [words, "", "No policy was given for this page (`--policy FILE`)."]
    verdict = "It refuses this job:" if policy["refused"] else "It allows this job."
    return [
        words,
        "",
        f"The policy given here starts from the level {policy['level']}. {verdict}",
        *([""] if policy["refused"] else []),
        *(f"- {reason}" for reason in policy["refused"]),
        "",
        policy["budget"],
    ]
