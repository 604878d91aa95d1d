"""Odd and wrong lists: what dataset.json may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from drafts import Draft
from register import edit, fits, refused

# Lists


@fits
def no_test_cases(draft: Draft) -> None:
    edit(draft, lambda c: c.pop("test") if draft.rng.integers(2) else c.update(test=[]))


@fits
def no_validation_cases(draft: Draft) -> None:
    edit(draft, lambda c: c.update(validation=[]))


@fits
def training_alone(draft: Draft) -> None:
    edit(draft, lambda c: c.update(validation=[], test=[]))


@refused
def no_training_cases(draft: Draft) -> None:
    edit(draft, lambda c: c.update(training=[]))


@fits
def further_keys(draft: Draft) -> None:
    edit(
        draft,
        lambda c: c["test"][0].update(case="x", age=61, path="/nowhere", **{"class": 1, "class_path": "os.system"}),
    )


@refused
def classes_for_labels(draft: Draft) -> None:
    def change(content: dict[str, Any]) -> None:
        for entry in content[str(draft.rng.choice(["training", "validation", "test"]))]:
            entry["class"] = 1
            del entry["label"]

    edit(draft, change)


@refused
def odd_class(draft: Draft) -> None:
    odd = [[1], "1", None, {"a": 1}, True, 7][int(draft.rng.integers(6))]
    edit(draft, lambda c: (c["test"][0].pop("label"), c["test"][0].update({"class": odd})))


@refused
def odd_image(draft: Draft) -> None:
    odd = [["a.nii.gz"], None, 3, "", "/abs.png", "../out.png", "images", "images\\case-0.png", "\ud800.png", "a\0.png"]
    chosen = odd[int(draft.rng.integers(len(odd)))]
    key = str(draft.rng.choice(["image", "label"]))
    edit(draft, lambda c: c["training"][0].update({key: chosen}))


@refused
def odd_entry(draft: Draft) -> None:
    odd: list[Any] = ["images/case-0.png", None, [], 7, {}]
    edit(draft, lambda c: c["test"].append(odd[int(draft.rng.integers(len(odd)))]))


@refused
def odd_patient(draft: Draft) -> None:
    odd: list[Any] = [None, "", "  ", [], True, 1.5]
    edit(draft, lambda c: c["training"][0].update(patient=odd[int(draft.rng.integers(len(odd)))]))


@fits
def numbers_as_patients(draft: Draft) -> None:
    draft.patients = [10, 11, 12, "13"]


@refused
def a_patient_in_two_splits(draft: Draft) -> None:
    draft.patients = ["P-9", "x", "y", str(draft.rng.choice(["P-9", "p-9 ", " P-9", "Ｐ-9", "P-9\t"]))]


@fits
def a_patient_in_two_ways(draft: Draft) -> None:
    draft.patients[:2] = ["P-9", "p-9 "]


@refused
def no_label(draft: Draft) -> None:
    edit(draft, lambda c: c["training"][0].pop("label"))


@refused
def odd_labels(draft: Draft) -> None:
    names = [("background", 0), ("organ", 1)], ["a", "b"], [], None, {}
    odd: list[Any] = [*names, {"0": "background"}, {"1": "organ"}, {"background": 0, "organ": 1}]
    odd += [{"0": "background", "1": name} for name in ("", None, "Background ", 7)]
    odd += [{"0": "background", "01": "a", "1": "b"}, {"0.0": "background", "1": "organ"}]
    draft.labels = odd[int(draft.rng.integers(len(odd)))]


@refused
def listed_again(draft: Draft) -> None:
    split = str(draft.rng.choice(["training", "validation", "test"]))
    times = int(draft.rng.choice([1, 999]))
    edit(draft, lambda c: c[split].extend([c[split][0]] * times))


@refused
def the_same_image_twice(draft: Draft) -> None:
    source, other = draft.images[0], draft.images[3]
    other.values = source.values.copy()
    if not draft.pictures:
        other.values = other.values.astype(draft.rng.choice(np.array([np.float32, np.int32, np.float64], object)))
        other.order = str(draft.rng.choice(["<", ">"]))
        if draft.rng.integers(2):
            assert other.affine is not None
            other.values, other.affine = other.values[::-1], other.affine @ np.diag([-1, 1, 1, 1])
            draft.masks[3].affine = other.affine
    elif draft.rng.integers(2):
        other.mode = "RGB"


@refused
def a_key_twice(draft: Draft) -> None:
    draft.encode = lambda text: text.replace('"labels"', '"training": [], "labels"', 1).encode()


@refused
def no_json(draft: Draft) -> None:
    odd = [b"", b"{", b"[]", b"null", b"\xff\xfe\xfa", b"[" * 100000, b'{"name": "\xe9"}']
    draft.encode = lambda text: odd[int(draft.rng.integers(len(odd)))]


@fits
def other_encodings(draft: Draft) -> None:
    kind = str(draft.rng.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-32"]))
    draft.encode = lambda text: text.replace("\n", "\r\n").encode(kind)


@refused
def another_name(draft: Draft) -> None:
    edit(draft, lambda c: c.update(name=[5, "site-2", None][int(draft.rng.integers(3))]))


@fits
def odd_remarks(draft: Draft) -> None:
    edit(draft, lambda c: c.update(source="by hand", modality="", extra={"path": "x"}, excluded=["images/x.png"]))


@refused
def a_misspelt_split(draft: Draft) -> None:
    wrong = {
        "training": ["train", "Training"],
        "validation": ["vaildation", "val"],
        "test": ["testing", "Test", "fold_2"],
    }
    split = str(draft.rng.choice(list(wrong)))
    key = str(draft.rng.choice(wrong[split]))
    edit(draft, lambda c: c.update({key: c.pop(split)}))


@refused
def a_hospital_that_is_no_text(draft: Draft) -> None:
    odd: list[Any] = [None, 5, True, ["a", "b"], {"0": "MRI"}]
    key, value = str(draft.rng.choice(["hospital", "modality"])), odd[int(draft.rng.integers(len(odd)))]
    edit(draft, lambda c: c.update({key: value}))
