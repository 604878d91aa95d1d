"""What the classes of a site's cases say without opening an image: one alone, one that is missing, how uneven they are.

A site may lack a class, or have one alone: it learns and is scored by what it has, so these are warnings (our choice).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sitelora.data.check_result import Problem, warning
from sitelora.data.errors import first_few
from sitelora.data.needs import DataNeeds
from sitelora.data.site_entries import patient_key
from sitelora.data.site_folder import DATALIST, SPLITS, SiteFolder

UNEVEN = 10
"""So many times as many cases of one class as of another are said (our choice)."""
_WITHOUT = {
    "training": "this site does not learn it",
    "validation": "decisions are fitted without it",
    "test": "nothing is said of how well it is told",
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
    counts = {split: here for split, here in class_counts(folder).items() if any(here.values())}
    nowhere = {value for value in folder.labels if not any(here[value] for here in counts.values())}
    if counts and nowhere:
        found = f"no case of {_named(folder, nowhere)}: this site neither learns it nor says how well it is told"
        yield warning(found, "cases of every class", "add some if there are", file=DATALIST)
    for split, here in counts.items():
        lacking = {value for value, count in here.items() if not count} - nowhere
        if lacking:
            said = f"no case of {_named(folder, lacking)} in {split!r}: {_WITHOUT[split]}"
            yield warning(said, "cases of every class", "move or add some if there are", file=DATALIST)
    trained = {value: count for value, count in counts.get("training", {}).items() if count}
    if trained and max(trained.values()) >= UNEVEN * min(trained.values()):
        told = ", ".join(f"{count} of {folder.labels[value]!r}" for value, count in trained.items())
        remedy = "none is needed: training weighs the rare ones more"
        yield warning(f"classes as uneven as {told}", "similar numbers", remedy, file=DATALIST)
    if len(folder.labels) == 2:
        yield from _patients_of_both(folder)


def _named(folder: SiteFolder, values: Collection[int]) -> str:
    return f"class {first_few([f'{value} ({folder.labels[value]!r})' for value in sorted(values)])}"


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
