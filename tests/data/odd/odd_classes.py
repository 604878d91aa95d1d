"""Classes that are odd or none, and stacks of two phases that are."""

from __future__ import annotations

from typing import Any

import numpy as np
from drafts import SPLITS, Draft
from register import edit, fits_classes, refused_classes, volumes


def every_case(draft: Draft, change: Any) -> None:
    """Change the entry of every case; ``change`` takes its number and the entry."""

    def act(content: dict[str, Any]) -> None:
        cases = [case for split in dict.fromkeys(SPLITS) for case in content[split]]
        for number, case in enumerate(cases):
            change(number, case)

    edit(draft, act)


def named(count: int) -> dict[str, str]:
    return {str(value): f"kind {value}" for value in range(count)}


@fits_classes
def no_masks(draft: Draft) -> None:
    every_case(draft, lambda number, case: case.pop("label"))


@fits_classes
def one_class_alone(draft: Draft) -> None:
    value = int(draft.rng.integers(2))
    every_case(draft, lambda number, case: case.update({"class": value}))


@fits_classes
def a_class_that_is_tested_alone(draft: Draft) -> None:
    every_case(draft, lambda number, case: case.update({"class": int(number == 3)}))


@fits_classes
def a_class_that_validates_alone(draft: Draft) -> None:
    every_case(draft, lambda number, case: case.update({"class": int(number == 2)}))


@fits_classes
def many_classes_of_which_few_occur(draft: Draft) -> None:
    draft.labels = named(int(draft.rng.choice([3, 17, 255])))
    last = len(draft.labels) - 1
    every_case(draft, lambda number, case: case.update({"class": last if number % 2 else 0}))


@fits_classes
def a_patient_of_both_classes(draft: Draft) -> None:
    draft.patients[0] = draft.patients[1]


@fits_classes
def a_heart_that_does_not_move(draft: Draft) -> None:
    volumes(draft)
    for file in draft.images:
        file.values = np.stack([file.values] * 2, -1)


@fits_classes
def a_phase_without_a_picture(draft: Draft) -> None:
    volumes(draft)
    for number, file in enumerate(draft.images):
        empty = np.full_like(file.values, number)
        phases = [file.values, empty] if draft.rng.integers(2) else [empty, file.values]
        file.values = np.stack(phases, -1)


@fits_classes
def other_numbers_of_slices(draft: Draft) -> None:
    volumes(draft)
    for file, count in zip(draft.images, (1, 2, 9, 40), strict=True):
        file.values = draft.rng.integers(0, 255, (24, 20, count)).astype(np.int16)


@fits_classes
def an_axis_of_one_before_the_phases(draft: Draft) -> None:
    volumes(draft)
    for file in draft.images:
        file.values = np.stack([file.values, file.values // 2], -1)[:, :, :, None]


@refused_classes
def a_class_that_is_none(draft: Draft) -> None:
    odd: list[Any] = ["1", None, True, 1.0, [1], {}, 2, -1, 10**30, ""]
    case, value = draft.any(), odd[int(draft.rng.integers(len(odd)))]
    every_case(draft, lambda number, entry: entry.update({"class": value}) if number == case else None)


@refused_classes
def a_case_without_a_class(draft: Draft) -> None:
    case, bare = draft.any(), bool(draft.rng.integers(2))

    def change(number: int, entry: dict[str, Any]) -> None:
        if number == case:
            entry.pop("class")
            if bare:
                entry.pop("label")

    every_case(draft, change)


@refused_classes
def classes_that_are_not_0_to_n(draft: Draft) -> None:
    odd: list[Any] = [
        {"0": "a"},
        {"0": "a", "2": "b"},
        {"1": "a", "2": "b"},
        {"0": "a", "-1": "b"},
        {"0": "a", "1": "A"},
    ]
    draft.labels = odd[int(draft.rng.integers(len(odd)))]


@refused_classes
def another_number_of_classes(draft: Draft) -> None:
    draft.labels = named(3)
    draft.values["classes"] = int(draft.rng.choice([2, 4]))


@refused_classes
def another_number_of_phases(draft: Draft) -> None:
    volumes(draft)
    file, count = draft.images[draft.any()], int(draft.rng.choice([1, 3, 4, 30]))
    file.values = np.stack([file.values] * count, -1)
