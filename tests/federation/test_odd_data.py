"""A federation over data that is odd and fit: `.nii` files of one slice in folders of patients, no test cases, BOMs."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.site_folder import SiteDataError
from sitelora.federation.in_process import run_in_process
from sitelora.run_result import RunResult

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])
FAST = {"image_size": 32, "base": None, "slices": 3, "epochs": 1, "precision": "fp32", "method#rank": 2}


def site(folder: Path, *, test: int) -> Path:
    rng = np.random.default_rng(0)
    lists: dict[str, list[dict[str, str]]] = {"training": [], "validation": [], "test": []}
    for number, split in enumerate(["training", "validation", *["test"] * test]):
        mask = np.zeros((20, 16, 1), np.uint8)
        mask[4:12, 3:9] = 1
        entry = {"patient": f"P-{number}"}
        for key, values in (("image", rng.normal(90, 9, mask.shape).astype(np.float32) + 60 * mask), ("label", mask)):
            entry[key] = f"{key}s/p{number}/scan.nii"
            (folder / entry[key]).parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(values, AFFINE), folder / entry[key])
        lists[split].append(entry)
    content = json.dumps({"labels": {"0": "background", "1": "organ"}, **lists})
    (folder / "dataset.json").write_bytes(content.encode("utf-8-sig"))
    return folder


def run(
    root: Path,
    uid: str = "u",
    sites: tuple[str, ...] = ("site-1", "site-2"),
    attends: Callable[[str, int], bool] = lambda site, round_number: True,
    **settings: object,
) -> RunResult:
    return run_in_process(
        bundle="iat_segmentation",
        dataset="odd",
        sites=sites,
        rounds=1,
        data=root,
        home_folder=root / "home",
        uid=uid,
        overrides={**FAST, **settings},
        attends=attends,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    root = tmp_path_factory.mktemp("odd") / "disk #1, $HOME @x"  # every sign means something to a MONAI config
    site(root / "odd" / "site-1", test=2)
    site(root / "odd" / "site-2", test=0)
    return root, run(root)


def test_cases_of_one_file_name_keep_predictions_and_scores_apart(finished: tuple[Path, RunResult]) -> None:
    root, result = finished
    assert result.completed
    (evaluation,) = root.glob("home/**/site-1/evaluation/evaluation.json")
    content = json.loads(evaluation.read_text())
    assert [case["case"] for case in content["personal"]["cases"]] == ["p2_scan", "p3_scan"]
    assert {overlay["case"] for overlay in content["overlays"]} == {"p2_scan", "p3_scan"}
    predictions = sorted((evaluation.parent / "predictions").iterdir())
    assert [path.name for path in predictions] == ["p2_scan.nii.gz", "p3_scan.nii.gz"]
    for path in predictions:
        image = nib.load(path)
        assert image.shape == (20, 16, 1)
        assert np.array_equal(image.affine, AFFINE)


def test_no_test_data_is_an_answer_and_the_run_goes_on(finished: tuple[Path, RunResult]) -> None:
    root, result = finished
    evaluation = result.evaluation["site-2"]
    for kind in ("base", "personal"):
        assert evaluation[kind].not_applicable == "no test data at site site-2"
    assert "local to a site" in str(evaluation["global"].not_applicable)
    assert list(root.glob("home/**/site-2/models/personal.pt"))
    assert list(root.glob("home/**/site-2/evaluation/evaluation.json"))


def test_pictures_that_contradict_the_data_are_refused_before_the_first_step(finished: tuple[Path, RunResult]) -> None:
    with pytest.raises(ValueError, match=r"found a volume \(NIfTI\), expected pictures"):
        run(finished[0], "other", pictures=True)


def test_as_many_labels_as_settings_allow_are_trained_on_and_scored(tmp_path: Path) -> None:
    folder = site(tmp_path / "odd" / "site-1", test=1)
    content = json.loads((folder / "dataset.json").read_bytes())
    content["labels"] = {"0": "background", **{str(n): f"part {n}" for n in range(1, 71)}}
    (folder / "dataset.json").write_text(json.dumps(content))
    result = run(tmp_path, sites=("site-1",), classes=70)
    assert result.completed
    (evaluation,) = tmp_path.glob("home/**/site-1/evaluation/evaluation.json")
    assert len(json.loads(evaluation.read_text())["personal"]["labels"]) == 70


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_file_that_changes_after_the_check_is_named(split: str, tmp_path: Path) -> None:
    folder = site(tmp_path / "odd" / "site-1", test=1)
    (entry,) = json.loads((folder / "dataset.json").read_bytes())[split]

    def cut(name: str, round_number: int) -> bool:
        (folder / entry["image"]).write_bytes(b"")
        return True

    with pytest.raises(SiteDataError, match=r"scan\.nii: found a file that is not readable \(it is empty\)"):
        run(tmp_path, sites=("site-1",), attends=cut)
