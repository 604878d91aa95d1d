"""A second run beside the first, usually the same job with method ``local``: its personal score as one more column.

The comparison is of personal models on the same sites' test cases. What would make it unfair is said.
"""

from __future__ import annotations

from dataclasses import replace

from sitelora.evaluation.scores import case_scores
from sitelora.names import natural
from sitelora.report.format_values import listed
from sitelora.report.results import ReportError, Run, mean
from sitelora.report.style import MODELS

MODEL = "personal"


def with_beside(run: Run, other: Run) -> Run:
    """Return ``run`` with the personal scores of ``other`` as one more model, named after its method.

    Raises:
        ReportError: the runs cannot be compared: one and the same run, other data, or no site in common.
    """
    here, there = run.result, other.result
    name = there.method or "beside"
    if name in MODELS or name == here.method:
        name = f"{name} (beside)"
    mine, theirs = here.dataset or "?", there.dataset or "?"
    if here.uid and here.uid == there.uid:
        raise ReportError(
            f"the run beside is this run itself (uid {here.uid}): name another one, such as its local run"
        )
    if mine != theirs:
        raise ReportError(
            f"the run beside has the data {theirs!r}, this one {mine!r}: scores on different data cannot be compared; "
            "name a run of the same dataset"
        )
    if run.primary != other.primary:
        raise ReportError(
            f"the run beside is scored by {other.primary.title}, this one by {run.primary.title}, and these cannot be "
            "compared; name a run of the same task"
        )
    evaluation = {site: dict(scores) for site, scores in run.evaluation.items()}
    common = [site for site in _scored(run) if other.score(site, MODEL) is not None]
    if not common:
        scored = [listed(_scored(each)) or "none" for each in (run, other)]
        raise ReportError(
            f"no site has a {MODEL} {run.primary.title} in both runs: this one scored {scored[0]}, the one beside "
            f"{scored[1]}; name a finished run with the same sites"
        )
    for site in common:
        evaluation[site][name] = other.evaluation[site][MODEL]
    return replace(run, evaluation=evaluation, beside=name, beside_notes=_unfair(run, other, name))


def beside_pairs(run: Run) -> dict[str, tuple[float, float]]:
    """Return the personal scores of this run and of the run beside, by site that has both."""
    return run.score_pairs(MODEL, run.beside) if run.beside else {}


def beside_difference(run: Run) -> float | None:
    """Return the mean over sites of what this run has above the run beside."""
    return mean(one - two for one, two in beside_pairs(run).values())


def below_beside(run: Run) -> list[str]:
    """Return one warning for every site whose personal model is worse than that of the run beside, beyond chance.

    Beyond chance is more than the standard error of the difference over its cases, where both runs tell them.
    """
    score = run.primary
    return [
        f"{site} is worse than its model of the {run.beside} run: personal {score.title} {score.text(one)} against "
        f"{score.text(two)}."
        for site, (one, two) in beside_pairs(run).items()
        if score.better(two, one) and score.clearly_better(*_cases_of_both(run, site, one=two, other=one))
    ]


def _cases_of_both(run: Run, site: str, *, one: float, other: float) -> tuple[list[float], list[float]]:
    """Return the case scores of the run beside and of this run, in one order; their means where they are not alike."""
    cases = [run.evaluation[site][model].cases for model in (run.beside, MODEL)]
    found = [dict(zip([c.case for c in each], case_scores(each, run.primary), strict=True)) for each in cases]
    if not found[0] or found[0].keys() != found[1].keys():
        return [one], [other]
    return [found[0][case] for case in sorted(found[0])], [found[1][case] for case in sorted(found[0])]


def difference_text(run: Run, value: float | None) -> str:
    """Return a difference of two scores with its sign."""
    return "" if value is None else f"{value:+.{run.primary.decimals}f}".replace("-", "\N{MINUS SIGN}")


def _unfair(run: Run, other: Run, name: str) -> list[str]:
    """Return every difference between the runs that a fair comparison must not have."""
    lead = f"Not the same as in the {name} run"
    lines = []
    here, there = set(run.sites), set(other.sites)
    if here != there:
        parts = (("only here", sorted(here - there)), ("only there", sorted(there - here)))
        lines.append(f"{lead}: the sites ({'; '.join(f'{listed(who)} {where}' for where, who in parts if who)}).")
    for what, one, two in (
        ("the rounds done", run.result.rounds_done, other.result.rounds_done),
        ("the base", _base(run), _base(other)),
        ("the input size", run.result.image_size, other.result.image_size),
        ("the bundle", run.result.bundle, other.result.bundle),
        ("the seed", run.result.seed, other.result.seed),
    ):
        if one not in (None, "") and two not in (None, "") and one != two:
            lines.append(f"{lead}: {what} ({one} here, {two} there).")
    by_difference: dict[tuple[str, str, str], list[str]] = {}
    for site in sorted(here & there, key=natural):
        for what, one, two in (
            ("the cases", _cases(run, site), _cases(other, site)),
            ("the training steps", _steps(run, site), _steps(other, site)),
        ):
            if one and two and one != two:
                by_difference.setdefault((what, one, two), []).append(site)
    for (what, one, two), sites in by_difference.items():
        lines.append(f"{lead}: {what} at {listed(sites)} ({one} here, {two} there).")
    if not other.result.completed:
        lines.append(f"The {name} run is not complete.")
    return lines


def _scored(run: Run) -> list[str]:
    return [site for site in run.sites if run.score(site, MODEL) is not None]


def _base(run: Run) -> str | None:
    base = run.result.base
    return f"{base.name}, sha256 {base.sha256[:12]}" if base.sha256 else base.name


def _cases(run: Run, site: str) -> str:
    cases = run.cases(site)
    return " / ".join(str(cases.get(split)) for split in ("training", "validation", "test")) if cases else ""


def _steps(run: Run, site: str) -> str:
    return f"{sum(steps or 0 for steps in run.course(site, 'steps')):.0f}".removeprefix("0")
