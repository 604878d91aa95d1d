"""What the classes of a site's cases say without opening an image: one alone, one that is missing, how uneven they are.

A site may lack a class, or have one alone: it learns and is scored by what it has, so these are warnings (our choice).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from sitelora.data.check_result import Problem, warning
from sitelora.data.errors import first_few
from sitelora.data.needs import DataNeeds
from sitelora.data.site_entries import patient_key
from sitelora.data.site_folder import DATALIST, SPLITS, SiteFolder

UNEVEN = 10
"""So many times as many cases of one class as of another are said (our choice)."""
_WITHOUT = {
    "training": "this site learns nothing of what is missing",
    "validation": "decisions are fitted without what is missing",
    "test": "nothing is known here of the scores of what is missing",
}


def read_for_classes(folder: SiteFolder, needs: DataNeeds | None) -> bool:
    """Say whether a folder's labels are classes of cases: as the bundle's task says, else as the cases do."""
    if needs is not None:
        return needs.truth == "class"
    entries = [entry for split in SPLITS for entry in folder.splits.get(split, ())]
    return any("class" in entry for entry in entries) and not any("label" in entry for entry in entries)


def is_class(value: Any, labels: Mapping[int, str]) -> bool:
    """Say whether a case's class is one that is listed: a whole number, and no text, truth value or 1.0."""
    return isinstance(value, int) and not isinstance(value, bool) and value in labels


def class_counts(folder: SiteFolder) -> dict[str, dict[int, int]]:
    """Return the cases of every listed class in every split; a class that is not listed counts nowhere."""
    counts = {}
    for split in SPLITS:
        found = Counter(
            entry["class"] for entry in folder.splits.get(split, ()) if is_class(entry.get("class"), folder.labels)
        )
        counts[split] = {value: found[value] for value in folder.labels}
    return counts


def class_problems(folder: SiteFolder) -> Iterator[Problem]:
    """Yield what the counts of the classes tell, and patients who have two of them."""
    for split, counts in class_counts(folder).items():
        there = [value for value, count in counts.items() if count]
        lacking = [f"{value} ({folder.labels[value]!r})" for value, count in counts.items() if not count]
        if len(there) == 1 and len(counts) > 1:
            found = f"class {there[0]} ({folder.labels[there[0]]!r}) alone in {split!r}: {_WITHOUT[split]}"
            yield warning(found, "cases of every class", "add some of the others if there are", file=DATALIST)
        elif there and lacking:
            found = f"no case of class {first_few(lacking)} in {split!r}: {_WITHOUT[split]}"
            yield warning(found, "cases of every class", "add some if there are", file=DATALIST)
        most, least = max(counts.values(), default=0), min((counts[value] for value in there), default=0)
        if split == "training" and len(there) > 1 and most >= UNEVEN * least:
            told = ", ".join(f"{counts[value]} of {folder.labels[value]!r}" for value in there)
            found = f"classes as uneven as {told}"
            yield warning(found, "similar numbers", "none is needed: training weighs the rare ones more", file=DATALIST)
    if len(folder.labels) == 2:
        yield from _patients_of_both(folder)


def _patients_of_both(folder: SiteFolder) -> Iterator[Problem]:
    """Yield patients with cases of both of two classes: right for two lungs, wrong for a mistyped diagnosis."""
    classes: dict[str, set[int]] = defaultdict(set)
    for entry in (entry for split in SPLITS for entry in folder.splits.get(split, ())):
        if is_class(entry.get("class"), folder.labels):
            classes[patient_key(entry["patient"])].add(entry["class"])
    both = sorted(patient for patient, values in classes.items() if len(values) > 1)
    if both:
        found = f"{len(both)} patient(s) with cases of both classes ({first_few(both, most=3)})"
        yield warning(found, "one class a patient", "see that it is meant", file=DATALIST)
