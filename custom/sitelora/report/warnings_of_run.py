"""Every warning that a careful reader of a run would want to see, in plain words and each once."""

from __future__ import annotations

from sitelora.report.compare_two_runs import below_beside
from sitelora.report.findings import compared
from sitelora.report.format_values import count_text, listed
from sitelora.report.results import Run
from sitelora.report.style import model_word
from sitelora.run_result import OK

TRUNCATION = "truncation_lost"
"""In a round's ``server``: the largest share (Frobenius norm) of a mean product that a rank truncation dropped."""
LOUD_ENERGY = 0.01  # share of the energy (squared norm) above which it is a warning; our choice
USEFUL, COLLAPSE = 0.5, 0.2
"""Where the validation score of a model lies from its worst to its best, and its fall in one round's training that is a
warning; our choice."""


def warnings(run: Run) -> list[str]:
    """Return every warning once: those of the run, then those that its numbers show."""
    told = _told_absences(run)
    found = [text for text in run.result.warnings if text not in told] + [*run.notes, *run.beside_notes]
    if run.result.error:
        found.insert(0, f"The run ended with an error: {run.result.error}")
    done, planned = run.result.rounds_done, run.result.rounds_planned
    if run.has_result and not run.result.completed:
        found.append(f"The run is not complete: {done} of {planned if planned is not None else '?'} rounds are done.")
    if run.artificial:
        every = len(run.artificial) == len(run.sites) > 1
        where = "every site" if every else listed(list(run.artificial))
        found.insert(0, f"Artificial data at {where}: drawn, not measured, so these scores say nothing about patients.")
    found += _too_little_noise(run)
    found += _absences(run)
    found += _missing_classes(run)
    found += below_beside(run)
    found += _truncations(run)
    found += _collapses(run)
    for model in ("personal", "global", "received", "unseen"):
        _, not_above = compared(run, model)
        if not_above:
            found.append(f"The {model_word(model)} model is not better than the base at {listed(not_above)}.")
    _, unhelped = compared(run, "personal", "received")
    if unhelped:
        found.append(f"The personal model is not better than the received one at {listed(unhelped)}.")
    if not run.evaluation:
        found.append("There is no evaluation on test data.")
    elif silent := [site for site in run.sites if site not in run.evaluation]:
        found.append(f"There is no evaluation from {listed(silent)}.")
    return list(dict.fromkeys(found))


def _too_little_noise(run: Run) -> list[str]:
    """Return one line where noise was added and guarantees nothing."""
    told = run.result.privacy
    if told is None or not told.noise_multiplier or not told.releases:
        return []
    if told.epsilon is None:
        return [told.headline]
    return [f"{told.headline} That is too large to mean anything."] if told.meaningless else []


def _told_absences(run: Run) -> set[str]:
    """Return the server's own lines on absences, which :func:`_absences` says with rounds gathered."""
    return {
        f"round {each.counted}: {site} {entry.status}: {entry.reason}"
        for each in run.rounds
        for site, entry in each.sites.items()
        if entry.status != OK
    }


def _absences(run: Run) -> list[str]:
    """Return one line for every site and reason it missed rounds or had updates rejected."""
    gathered: dict[tuple[str, str, str], list[str]] = {}
    for each in run.rounds:
        for site, entry in each.sites.items():
            if entry.status != OK:
                gathered.setdefault((site, entry.status, entry.reason), []).append(str(each.counted))
    lines = []
    for (site, status, reason), numbers in gathered.items():
        word = "Rounds" if len(numbers) > 1 else "Round"
        what = {"missing": "was missing", "rejected": "sent an update that was rejected"}.get(status, status)
        lines.append(f"{site} {what} in {word.lower()} {listed(numbers)}{f': {reason}' if reason else ''}.")
    return lines


def _missing_classes(run: Run) -> list[str]:
    """Return one line for every site whose test cases lack a class, where classes count the same."""
    lines = []
    for site, models in run.evaluation.items() if run.primary.balanced else ():
        labels = next((score.labels for score in models.values() if score.labels), {})
        absent = [label for label, metrics in labels.items() if metrics.get(run.primary.name) is None]
        if absent:
            there = len(labels) - len(absent)
            lines.append(
                f"No test case at {site} is of the class {listed(absent)}: {run.primary.title} there is over "
                f"{count_text(there, 'class') if there == 1 else f'the {there} other classes'}, and scores that need "
                "the missing one have no value."
            )
    return lines


def _truncations(run: Run) -> list[str]:
    """Return one line when a server rule's rank truncation dropped a notable share of the energy."""
    lost = {each.counted: share**2 for each in run.rounds if (share := each.server.get(TRUNCATION)) is not None}
    loud = [round_number for round_number, share in lost.items() if share > LOUD_ENERGY]
    if not loud:
        return []
    worst = max(loud, key=lambda round_number: lost[round_number])
    return [
        f"The server's rank truncation dropped more than {100 * LOUD_ENERGY:.0f} % of a mean product's energy in "
        f"{len(loud)} of {count_text(len(run.rounds), 'round')}, at most {100 * lost[worst]:.1f} % (round {worst}): a "
        "higher rank keeps more."
    ]


def _collapses(run: Run) -> list[str]:
    """Return one line for every site whose own training spoilt a model that was of use when it came."""
    lines, score = [], run.primary
    for site in run.sites:
        falls = []
        for each in run.rounds:
            metrics = each.sites[site].metrics if site in each.sites else {}
            before, after = metrics.get("score_received"), metrics.get("score_personal")
            if before is None or after is None:
                continue
            useful, left = score.quality(before), score.quality(after)
            if useful is not None and left is not None and useful >= USEFUL and useful - left > COLLAPSE:
                falls.append((useful - left, before, after, each.counted))
        if falls:
            _, before, after, worst = max(falls)
            more = f", and in {len(falls) - 1} more" if len(falls) > 1 else ""
            lines.append(
                f"Training at {site} spoilt its validation {score.title}, from {score.text(before, fewer=1)} to "
                f"{score.text(after, fewer=1)} (round {worst}{more}): the learning rate is probably too high."
            )
    return lines
