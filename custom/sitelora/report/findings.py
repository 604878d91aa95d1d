"""What a run means in plain words: one verdict, and every warning a careful reader would want to see."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from sitelora.report.beside import below_beside, beside_difference, difference_text
from sitelora.report.costs import begin_bytes, cost_of, full_model_bytes, ratio_text
from sitelora.report.results import Round, Run, items, mapping, natural, number
from sitelora.report.style import model_word
from sitelora.report.words import bytes_text, count_text, dice_text, listed

TRUNCATION = "truncation_lost"
"""In a round's ``server``: the largest share (Frobenius norm) of a mean product that a rank truncation dropped."""
LOUD_ENERGY = 0.01  # share of the energy (squared norm) above which it is a warning; our choice


def planned_rounds(run: Run) -> int | None:
    """Return how many rounds the run was to have."""
    value = number(run.facts.get("rounds_planned"))
    return None if value is None else int(value)


def rounds_done(run: Run) -> int:
    """Return how many rounds were finished."""
    value = number(run.facts.get("rounds_done"))
    return len(run.rounds) if value is None else int(value)


def attended(each: Round) -> list[str]:
    """Return the sites whose update was used in a round."""
    return [site for site, entry in each.sites.items() if entry.status == "ok"]


def mean_dice(run: Run, model: str) -> float | None:
    """Return the mean over sites of a model's Dice (every site counts the same), ``None`` without any."""
    values = [s.dice for scores in run.evaluation.values() if (s := scores.get(model)) and s.dice is not None]
    return statistics.fmean(values) if values else None


def compared(run: Run, model: str, other: str = "base") -> tuple[list[str], list[str]]:
    """Return the sites where ``model`` scores above ``other``, and those where it does not."""
    above: list[str] = []
    not_above: list[str] = []
    for site, scores in run.evaluation.items():
        one, two = (scores[name].dice if name in scores else None for name in (model, other))
        if one is not None and two is not None:
            (above if one > two else not_above).append(site)
    return above, not_above


def main_model(run: Run) -> str | None:
    """Return the model that the page speaks of first: the personal one, else the global one."""
    for name in ("personal", "global", "received", "unseen"):
        if mean_dice(run, name) is not None:
            return name
    return None


def class_names(run: Run) -> list[str]:
    """Return the names of the classes in the order of their label values, empty when there is only one."""
    sites = mapping(run.facts, "sites")
    labels = next((told for site in sites if (told := mapping(mapping(sites, site), "labels"))), {})
    names = [str(labels[value]) for value in sorted(labels, key=natural) if value != "0"]
    return names if len(names) > 1 else []


def upload_per_round(run: Run) -> float | None:
    """Return the mean bytes that one site sent in one round."""
    sent = [entry.bytes_up for each in run.rounds for entry in each.sites.values() if entry.bytes_up]
    return statistics.fmean(sent) if sent else None


def verdict(run: Run) -> str:
    """Return what happened, how good it is and what travelled, in at most five sentences."""
    parts = (_what_happened(run), _how_good(run), _beside(run), _what_travelled(run))
    return " ".join(part for part in parts if part)


def _what_happened(run: Run) -> str:
    done, planned = rounds_done(run), planned_rounds(run)
    if not run.facts:
        return f"This folder shows {count_text(len(run.sites), 'site')} and not the whole federation."
    count = count_text(len(run.sites), "site")
    if run.facts.get("completed") is True:
        return f"{count} trained together for {count_text(done, 'round')}."
    of_planned = f" of {planned}" if planned is not None else ""
    return f"The run was cut short after {done}{of_planned} rounds with {count}."


def _how_good(run: Run) -> str:
    model = main_model(run)
    if model is None:
        return "No model was scored on test data, so this page says nothing about quality."
    above, not_above = compared(run, model)
    total, value = len(above) + len(not_above), dice_text(mean_dice(run, model))
    if not total:
        return f"The {model_word(model)} model reaches a mean Dice of {value} on test data; the base was not scored."
    where = (
        f"at {'the one site' if total == 1 else 'both sites' if total == 2 else f'all {total} sites'}"
        if not not_above
        else "at no site"
        if not above
        else f"at {len(above)} of {total} sites"
    )
    base = dice_text(mean_dice(run, "base"))
    return (
        f"The {model_word(model)} model is better than the base {where}: mean Dice {value} against {base} on test data."
    )


def _beside(run: Run) -> str:
    """Say how the personal models stand against those of the run beside."""
    above, not_above = compared(run, "personal", run.beside)
    if not above and not not_above:
        return ""
    total = len(above) + len(not_above)
    where = "every site" if not not_above and total > 1 else f"{len(above) or 'none'} of {count_text(total, 'site')}"
    caution = "; the two runs differ in more than the method" if run.beside_notes else ""
    gain = difference_text(beside_difference(run))
    return f"Against the {run.beside} run it is better at {where}, mean difference {gain}{caution}."


def _what_travelled(run: Run) -> str:
    sent = upload_per_round(run)
    if sent is None:
        return "Nothing was sent." if run.rounds and run.facts.get("egress") else ""
    text, full = f"A site sent {bytes_text(sent)} a round", full_model_bytes(run)
    if full and full > sent:
        text += f", {ratio_text(full / sent)} of what full fine-tuning would send"
    return f"{text}."


def warnings(run: Run) -> list[str]:
    """Return every warning once: those of the run, then those that its numbers show."""
    told = [str(text) for text in items(run.facts, "warnings")]
    found = [text for text in told if text not in _told_absences(run)] + [*run.notes, *run.beside_notes]
    if run.facts.get("error"):
        found.insert(0, f"The run ended with an error: {run.facts['error']}")
    done, planned = rounds_done(run), planned_rounds(run)
    if run.facts and run.facts.get("completed") is not True:
        found.append(f"The run is not complete: {done} of {planned if planned is not None else '?'} rounds are done.")
    if run.artificial:
        every = len(run.artificial) == len(run.sites) > 1
        where = "every site" if every else listed(list(run.artificial))
        found.insert(0, f"Artificial data at {where}: drawn, not measured, so these scores say nothing about patients.")
    found += _absences(run)
    found += below_beside(run)
    found += _truncations(run)
    for model in ("personal", "global", "received", "unseen"):
        _, not_above = compared(run, model)
        if not_above:
            found.append(f"The {model_word(model)} model is not above the base at {listed(not_above)}.")
    _, unhelped = compared(run, "personal", "received")
    if unhelped:
        found.append(f"Local training did not improve on the received model at {listed(unhelped)}.")
    if not run.evaluation:
        found.append("There is no evaluation on test data.")
    elif silent := [site for site in run.sites if site not in run.evaluation]:
        found.append(f"There is no evaluation from {listed(silent)}.")
    return list(dict.fromkeys(found))


def _truncations(run: Run) -> list[str]:
    """Return one line when a server rule's rank truncation dropped a notable share of the energy."""
    lost = {each.number: share**2 for each in run.rounds if (share := number(each.server.get(TRUNCATION))) is not None}
    loud = [round_number for round_number, share in lost.items() if share > LOUD_ENERGY]
    if not loud:
        return []
    worst = max(loud, key=lambda round_number: lost[round_number])
    return [
        f"The server's rank truncation dropped more than {100 * LOUD_ENERGY:.0f} % of a mean product's energy in "
        f"{len(loud)} of {count_text(len(run.rounds), 'round')}, at most {100 * lost[worst]:.1f} % (round {worst}): a "
        "higher rank keeps more."
    ]


def _told_absences(run: Run) -> set[str]:
    """Return the server's own lines on absences, which :func:`_absences` says with rounds gathered."""
    return {
        f"round {each.number}: {site} {entry.status}: {entry.reason}"
        for each in run.rounds
        for site, entry in each.sites.items()
        if entry.status != "ok"
    }


def _absences(run: Run) -> list[str]:
    """Return one line for every site and reason it missed rounds or had updates rejected."""
    gathered: dict[tuple[str, str, str], list[str]] = {}
    for each in run.rounds:
        for site, entry in each.sites.items():
            if entry.status != "ok":
                gathered.setdefault((site, entry.status, entry.reason), []).append(str(each.number))
    lines = []
    for (site, status, reason), numbers in gathered.items():
        word = "Rounds" if len(numbers) > 1 else "Round"
        what = {"missing": "was missing", "rejected": "sent an update that was rejected"}.get(status, status)
        lines.append(f"{site} {what} in {word.lower()} {listed(numbers)}{f': {reason}' if reason else ''}.")
    return lines


def headline(run: Run) -> dict[str, Any]:
    """Return the numbers of the page's first screen, for `results.json` and the terminal."""
    models: Mapping[str, float | None] = {name: mean_dice(run, name) for name in run.models}
    cost = cost_of(run)
    return {
        "mean_dice": dict(models),
        "beside": run.beside or None,
        "personal_minus_beside": beside_difference(run),
        "rounds_done": rounds_done(run),
        "rounds_planned": planned_rounds(run),
        "sites": list(run.sites),
        "artificial_sites": list(run.artificial),
        "bytes_up": cost.bytes_up,
        "bytes_down": cost.bytes_down,
        "begin_bytes_up": begin_bytes(run),
        "full_fine_tuning_bytes_up": cost.full_up,
        "full_fine_tuning_bytes_down": cost.full_down,
        "full_fine_tuning_ratio": cost.ratio,
    }
