"""A run that goes on after its data were sorted anew, or after a site's state was lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sitelora.data.site_folder import SiteDataError, SiteFolder
from sitelora.federation.in_process import run_in_process
from sitelora.federation.run_data import data_hmac, require_untrained
from sitelora.run_result import RunResult
from small_network import SMALL

SITES = ("site-1", "site-2")


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the data to sort anew."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


def federate(data: Path, home: Path, rounds: int, **more: Any) -> RunResult:
    return run_in_process(
        bundle="iat_segmentation",
        dataset="prostate",
        sites=SITES,
        rounds=rounds,
        data=data,
        home_folder=home,
        overrides={"slices": 3, **SMALL},
        uid="u",
        federation="f",
        evaluate=False,
        **more,
    )


def sort_anew(data: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = data / "prostate" / "site-1" / "dataset.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def swap(content: dict[str, Any], split: str) -> None:
    content["training"][0], content[split][0] = content[split][0], content["training"][0]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_who_was_trained_on_is_not_judged_later(data: Path, tmp_path: Path, split: str) -> None:
    folder, place = SiteFolder.read(data / "prostate" / "site-1"), tmp_path / "run"
    patient = folder.splits["training"][0]["patient"]
    require_untrained(folder, place, b"s", resumed=False)
    require_untrained(folder, place, b"s", resumed=True)
    sort_anew(data, lambda content: swap(content, split))
    moved = SiteFolder.read(folder.path)
    with pytest.raises(SiteDataError, match=rf"trained on the patients {patient} \({split}\).*take another uid"):
        require_untrained(moved, place, b"s", resumed=True)
    require_untrained(moved, place, b"s", resumed=False)  # nothing was trained yet
    assert patient not in (place / "trained_on.json").read_text()


def test_once_trained_on_stays_so(data: Path, tmp_path: Path) -> None:
    """Also where the case was left out in between."""
    folder, place = SiteFolder.read(data / "prostate" / "site-1"), tmp_path / "run"
    require_untrained(folder, place, b"s", resumed=False)
    kept: list[Any] = []
    sort_anew(data, lambda content: kept.append(content["training"].pop(0)))
    require_untrained(SiteFolder.read(folder.path), place, b"s", resumed=True)
    sort_anew(data, lambda content: content["test"].append(kept[0]))
    with pytest.raises(SiteDataError, match="trained on the patients"):
        require_untrained(SiteFolder.read(folder.path), place, b"s", resumed=True)


def test_a_fingerprint_is_of_cases_splits_and_masks_and_of_one_run(data: Path) -> None:
    folder = SiteFolder.read(data / "prostate" / "site-1")
    first = data_hmac(folder, b"s", uid="u")
    assert data_hmac(folder, b"s", uid="u") == first
    assert len({first, data_hmac(folder, b"t", uid="u"), data_hmac(folder, b"s", uid="v")}) == 3
    file = folder.path / folder.splits["training"][0]["label"]
    mask: Any = nib.load(file)
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj) * 0, mask.affine), file)
    assert data_hmac(folder, b"s", uid="u") != first


def test_a_resumed_run_refuses_it_and_says_what_else_changed(data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    federate(data, home, 1)
    plain = shutil.copytree(home, tmp_path / "plain")
    assert not [text for text in federate(data, plain, 1, resume=True).warnings if "resumed" in text]
    lost = shutil.copytree(home, tmp_path / "lost")
    shutil.rmtree(lost / "f" / "u" / "site-1")
    told = federate(data, lost, 2, resume=True).warnings
    assert (
        "resumed: site-1 answered for round 1 and has no state of this run: what it trained for itself is gone" in told
    )
    sort_anew(data, lambda content: content["training"].reverse())
    told = federate(data, shutil.copytree(home, tmp_path / "other"), 2, resume=True).warnings
    assert "resumed: site-1 has other cases or other masks than when the run began" in told
    sort_anew(data, lambda content: swap(content, "test"))
    with pytest.raises(SiteDataError, match="trained on the patients"):
        federate(data, home, 2, resume=True)
