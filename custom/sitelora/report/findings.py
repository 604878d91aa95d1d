"""What a run means in plain words: one verdict, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sitelora.names import natural
from sitelora.report.compare_two_runs import beside_difference, difference_text
from sitelora.report.costs import begin_bytes, cost_of, full_model_bytes, ratio_text
from sitelora.report.format_values import bytes_text, count_text
from sitelora.report.results import Run, mean
from sitelora.report.style import model_word
from sitelora.run_result import OK, Round
from sitelora.task import LegendLine


def attended(each: Round) -> list[str]:
    """Return the sites whose update was used in a round."""
    return [site for site, entry in each.sites.items() if entry.status == OK]


def mean_score(run: Run, model: str) -> float | None:
    """Return the mean over sites of a model's score (every site counts the same), ``None`` without any."""
    return mean(run.score(site, model) for site in run.evaluation)


def mean_text(run: Run, model: str) -> str:
    """Return ``mean_score`` as people read it."""
    return run.primary.text(mean_score(run, model))


def scored_models(run: Run) -> list[str]:
    """Return the models that have a score at some site, in reading order."""
    return [model for model in run.models if mean_score(run, model) is not None]


def compared(run: Run, model: str, other: str = "base") -> tuple[list[str], list[str]]:
    """Return the sites where ``model`` scores better than ``other``, and those where it does not."""
    pairs = run.score_pairs(model, other)
    better = [site for site, (one, two) in pairs.items() if run.primary.better(one, two)]
    return better, [site for site in pairs if site not in better]


def main_model(run: Run) -> str | None:
    """Return the model that the page speaks of first: the personal one, else the global one."""
    for name in ("personal", "global", "received", "unseen"):
        if mean_score(run, name) is not None:
            return name
    return None


def class_names(run: Run) -> list[str]:
    """Return the names of the classes in the order of their label values, empty when there is only one."""
    labels = next((told.labels for told in run.result.sites.values() if told.labels), {})
    names = [labels[value] for value in sorted(labels, key=natural) if value != "0"]
    return names if len(names) > 1 else []


def outlines(run: Run) -> Sequence[LegendLine]:
    """Return the legend of the lines in a run's pictures; empty where its task draws none."""
    legend = run.task.album.legend if run.task is not None else None
    return () if legend is None else legend(class_names(run))


def upload_per_round(run: Run) -> float | None:
    """Return the mean bytes that one site sent in one round."""
    return mean(entry.bytes_up or None for each in run.rounds for entry in each.sites.values())


def verdict(run: Run) -> str:
    """Return what happened, how good it is and what travelled, in at most five sentences."""
    parts = (_what_happened(run), _how_good(run), _beside(run), _what_travelled(run))
    return " ".join(part for part in parts if part)


def _what_happened(run: Run) -> str:
    done, planned = run.result.rounds_done, run.result.rounds_planned
    if not run.has_result:
        return f"This folder shows {count_text(len(run.sites), 'site')} and not the whole federation."
    count = count_text(len(run.sites), "site")
    if run.result.completed:
        how = "each alone" if _nothing_sent(run) and len(run.sites) > 1 else "together"
        return f"{count} trained {how} for {count_text(done, 'round')}."
    of_planned = f" of {planned}" if planned is not None else ""
    return f"The run was cut short after {done}{of_planned} rounds with {count}."


def _how_good(run: Run) -> str:
    model = main_model(run)
    if model is None:
        return "No model was scored on test data, so this page says nothing about quality."
    above, not_above = compared(run, model)
    total, value, title = len(above) + len(not_above), mean_text(run, model), run.primary.title
    if not total:
        return f"The {model_word(model)} model reaches a mean {title} of {value} on test data; the base was not scored."
    where = (
        f"at {'the one site' if total == 1 else 'both sites' if total == 2 else f'all {total} sites'}"
        if not not_above
        else "at no site"
        if not above
        else f"at {len(above)} of {total} sites"
    )
    base = mean_text(run, "base")
    return (
        f"The {model_word(model)} model is better than the base {where}: mean {title} {value} against {base} on test "
        "data."
    )


def _beside(run: Run) -> str:
    """Say how the personal models stand against those of the run beside."""
    above, not_above = compared(run, "personal", run.beside)
    if not above and not not_above:
        return ""
    total = len(above) + len(not_above)
    where = "every site" if not not_above and total > 1 else f"{len(above) or 'none'} of {count_text(total, 'site')}"
    caution = "; the two runs differ in more than the method" if run.beside_notes else ""
    gain = difference_text(run, beside_difference(run))
    return f"Against the {run.beside} run it is better at {where}, mean difference {gain}{caution}."


def _nothing_sent(run: Run) -> bool:
    return bool(run.rounds and run.result.egress) and upload_per_round(run) is None


def _what_travelled(run: Run) -> str:
    sent = upload_per_round(run)
    if sent is None:
        return "Nothing was sent." if _nothing_sent(run) else ""
    text, full = f"A site sent {bytes_text(sent)} a round", full_model_bytes(run)
    if full and full > sent:
        text += f", {ratio_text(full / sent)} of what full fine-tuning would send"
    return f"{text}."


def headline(run: Run) -> dict[str, Any]:
    """Return the numbers of the page's first screen, for `results.json` and the terminal."""
    models: Mapping[str, float | None] = {name: mean_score(run, name) for name in run.models}
    cost = cost_of(run)
    return {
        "task": run.result.task,
        "primary": run.primary.name,
        "mean_score": dict(models),
        "beside": run.beside or None,
        "personal_minus_beside": beside_difference(run),
        "rounds_done": run.result.rounds_done,
        "rounds_planned": run.result.rounds_planned,
        "sites": list(run.sites),
        "artificial_sites": list(run.artificial),
        "bytes_up": cost.bytes_up,
        "bytes_down": cost.bytes_down,
        "begin_bytes_up": begin_bytes(run),
        "full_fine_tuning_bytes_up": cost.full_up,
        "full_fine_tuning_bytes_down": cost.full_down,
        "full_fine_tuning_ratio": cost.ratio,
    }
