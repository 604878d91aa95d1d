"""A model says how it was made; a file that cannot be opened, or not with this bundle, is told in one sentence."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from sitelora.serving.model_file import described, made_of, require_fit, require_model

MADE: dict[str, Any] = {
    "bundle": "iat_segmentation",
    "arch": "sam_tiny",
    "image_size": 96,
    "classes": 1,
    "labels": {0: "background", 1: "prostate"},
    "pictures": False,
    "slices": 5,
}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_what_was_written_is_read_with_weights_only(tmp_path: Path) -> None:
    made = described(**MADE, site="site-1", served={"model": "received", "validation": None})
    file = saved(tmp_path / "personal.pt", {"model": {"w": torch.zeros(2)}, "made": made})
    found = made_of(file, bundle="iat_segmentation")
    assert found == made
    assert found["labels"] == {"0": "background", "1": "prostate"}


def test_no_file_and_an_older_file_say_nothing_and_are_no_error(tmp_path: Path) -> None:
    assert made_of(tmp_path / "absent.pt", bundle="iat_segmentation") == {}
    older = saved(tmp_path / "older.pt", {"model": {"w": torch.zeros(2)}})
    assert made_of(older, bundle="iat_segmentation") == {}


def test_another_bundles_model_is_told_in_one_sentence(tmp_path: Path) -> None:
    made = described(**{**MADE, "bundle": "fedsca_segmentation"})
    file = saved(tmp_path / "personal.pt", {"model": {}, "made": made})
    with pytest.raises(ValueError, match=r"personal\.pt was made with the bundle fedsca_segmentation") as said:
        made_of(file, bundle="iat_segmentation")
    assert len(str(said.value).splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut", "text", "list", "other"])
def test_what_is_no_model_is_named(damage: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "personal.pt", {"model": {"w": torch.zeros(50_000)}, "made": described(**MADE)})
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "text":
        file.write_text("no model")
    else:
        saved(file, [1, 2] if damage == "list" else {"state_dict": {}})
    with pytest.raises(ValueError, match=r"personal\.pt (is no model|holds)"):
        made_of(file, bundle="iat_segmentation")


def test_a_single_changed_byte_is_seen(tmp_path: Path) -> None:
    file = saved(tmp_path / "personal.pt", {"model": {"w": torch.ones(50_000)}, "made": described(**MADE)})
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"checksum of .* is wrong"):
        made_of(file, bundle="iat_segmentation")


class Harmful:
    """What a foreign file may hold: unpickling it would write a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("place", ["all", "model", "made"])
def test_nothing_in_a_model_file_is_executed(place: str, tmp_path: Path) -> None:
    harmful, file = Harmful(tmp_path / "done"), tmp_path / "personal.pt"
    if place == "all":
        file.write_bytes(pickle.dumps(harmful))
    else:
        saved(file, {"model": {}, "made": described(**MADE), place: harmful})
    with pytest.raises(SystemExit, match=r"personal\.pt is no model that can be opened"):
        require_model(file, bundle="iat_segmentation")
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("image_size", value) for value in ("96", 97, 0, -8, 10**9, 96.0, True, None)],
        *[("classes", 0), ("classes", 300), ("slices", 0), ("arch", "vit_x"), ("pictures", "no"), ("labels", [1])],
    ],
)
def test_what_no_model_says_of_itself_is_told_in_one_sentence(key: str, value: Any, tmp_path: Path) -> None:
    file = saved(tmp_path / "personal.pt", {"model": {}, "made": {**described(**MADE), key: value}})
    with pytest.raises(SystemExit, match=rf"personal\.pt says {key}=") as said:
        require_model(file, bundle="iat_segmentation")
    assert len(str(said.value).splitlines()) == 1


@pytest.mark.parametrize("decision", [[1], {"temperature": 0}, {"offsets": [1.0]}, {"threshold": "0.5"}, {"limit": 1}])
def test_a_decision_that_no_site_fits_is_told_before_a_case_is_answered(decision: Any, tmp_path: Path) -> None:
    bundle = "fedopal_classification"
    made = {**described(**MADE), "bundle": bundle, "arch": "vit_tiny", "classes": 2, "labels": {"0": "a", "1": "b"}}
    require_model(saved(tmp_path / "good.pt", {"model": {}, "made": made}), bundle=bundle)
    file = saved(tmp_path / "personal.pt", {"model": {}, "made": {**made, "decision": decision}})
    with pytest.raises(SystemExit, match=r"personal\.pt says decision=") as said:
        require_model(file, bundle=bundle)
    assert len(str(said.value).splitlines()) == 1


def test_a_value_that_is_missing_is_told(tmp_path: Path) -> None:
    made = {key: value for key, value in described(**MADE).items() if key != "slices"}
    file = saved(tmp_path / "personal.pt", {"model": {}, "made": made})
    with pytest.raises(SystemExit, match="says no slices"):
        require_model(file, bundle="iat_segmentation")
    with pytest.raises(SystemExit, match="no checkpoint at"):
        require_model(tmp_path / "absent.pt", bundle="iat_segmentation")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("weight"), "weight is missing"),
        (lambda s: s.update(other=torch.zeros(1)), "other is not a tensor of it"),
        (lambda s: s.update(weight=torch.zeros(3, 3)), r"weight is \(3, 3\) and not \(2, 3\)"),
        (lambda s: s.update(weight=torch.full((2, 3), torch.nan)), "6 of 6 values are NaN"),
        (lambda s: s.update(weight=torch.zeros(2, 3, dtype=torch.int8)), "int8"),
        (lambda s: s.update(weight=torch.zeros(2, 3, dtype=torch.complex64)), "complex64"),
        (lambda s: s.update(weight=torch.zeros(2, 3).to_sparse()), "sparse"),
        (lambda s: s.update(weight=[1]), "weight is list"),
    ],
)
def test_tensors_that_the_network_cannot_take_end_the_command_with_one_sentence(
    change: Any, said: str, tmp_path: Path
) -> None:
    network = torch.nn.Linear(3, 2)
    state = dict(network.state_dict())
    require_fit(saved(tmp_path / "good.pt", {"model": state}), network)
    require_fit(saved(tmp_path / "half.pt", {"model": {k: v.half() for k, v in state.items()}}), network)
    change(state)
    with pytest.raises(SystemExit, match=said) as ended:
        require_fit(saved(tmp_path / "personal.pt", {"model": state}), network)
    assert len(str(ended.value).splitlines()) == 1


def test_a_model_from_before_features_were_standardised_is_not_called_damaged(tmp_path: Path) -> None:
    network = torch.nn.ModuleDict({"head": torch.nn.Linear(3, 2), "standard": torch.nn.BatchNorm1d(3)})
    state = {name: value for name, value in network.state_dict().items() if name.startswith("head.")}
    with pytest.raises(SystemExit, match=r"from before standard\.\*.*that version, or name it as the base") as ended:
        require_fit(saved(tmp_path / "personal.pt", {"model": state}), network)
    assert "damaged" not in str(ended.value)


def test_what_serving_needs_must_be_said_and_only_plain_values_are() -> None:
    with pytest.raises(ValueError, match="does not say image_size"):
        described(**{key: value for key, value in MADE.items() if key != "image_size"})
    with pytest.raises(ValueError, match="image_size is a Tensor"):
        described(**{**MADE, "image_size": torch.tensor(1)})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arch", "$__import__('pathlib').Path('{mark}').touch() or 'sam_tiny'"),
        ("arguments", {"reduction": "$__import__('pathlib').Path('{mark}').touch() or 4"}),
        ("precision", "@ckpt"),
        ("federation", "%configs/train.json"),
        ("trained_on", {"channels": [1], "lower": [0.0], "upper": [1.0, 2.0], "narrowest": 1.0, "voxel_mm": []}),
        ("labels", {"one": "prostate"}),
        *(("federation", name) for name in ("x' or 'y", "../other", "a b", "", 7)),
        ("uid", "a/x"),
        ("site", "site-1\n"),
    ],
)
def test_a_value_that_a_config_would_act_on_is_refused_before_one_is_parsed(
    key: str, value: Any, tmp_path: Path
) -> None:
    mark = tmp_path / "done"
    told = {k: v.format(mark=mark) for k, v in value.items()} if key == "arguments" else value
    told = told.format(mark=mark) if isinstance(told, str) else told
    file = saved(tmp_path / "personal.pt", {"model": {}, "made": {**described(**MADE), key: told}})
    with pytest.raises(SystemExit, match=rf"personal\.pt says {key}="):
        require_model(file, bundle="iat_segmentation")
    assert not mark.exists()


def test_a_hospital_may_be_called_anything(tmp_path: Path) -> None:
    made = described(**MADE, hospital="$t. Mary's")
    file = saved(tmp_path / "personal.pt", {"model": {}, "made": made})
    assert made_of(file)["hospital"] == "$t. Mary's"


@pytest.mark.parametrize(
    ("bundle", "labels"),
    [
        ("iat_segmentation", {}),
        ("iat_segmentation", {0: "background", 1: "a", 2: "b"}),
        ("iat_segmentation", {0: "background", 7: "x"}),
        ("iat_segmentation", {0: "background"}),
        ("fedopal_classification", {0: "none", 1: "a", 2: "b"}),
    ],
)
def test_labels_that_contradict_the_classes_are_refused(bundle: str, labels: dict[int, str], tmp_path: Path) -> None:
    """Else a value would be written that has another name, or none."""
    changed = {"bundle": bundle, "labels": labels}
    if bundle == "fedopal_classification":
        changed |= {"arch": "vit_tiny", "classes": 2, "pictures": True, "slices": 1}
    file = saved(tmp_path / "personal.pt", {"model": {}, "made": described(**{**MADE, **changed})})
    with pytest.raises(
        ValueError, match=r"personal\.pt says classes=\d, labels=.* \(labels: the values .*, expected 0 to 1"
    ):
        made_of(file)
