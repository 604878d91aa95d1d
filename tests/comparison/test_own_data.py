"""A comparison on any folder that passes the check: what is read off it, and that a bad one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from sitelora.comparison.own_data import own_setup, write_setup
from sitelora.comparison.setup import find_setup
from sitelora.data.site_folder import SiteDataError


def test_volumes_are_read_off_the_folders_and_kept_as_a_setup(tiny: Path, tmp_path: Path) -> None:
    setup = own_setup("prostate", ("site-1", "site-2"), tiny)
    assert setup.overrides == {"classes": 1, "pictures": False, "batch_size": 1, "steps_per_epoch": 40}
    assert write_setup(setup, tmp_path) == "prostate_own"
    assert find_setup("prostate_own", tmp_path) == setup


def test_other_labels_and_bad_data_are_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "prostate", tmp_path / "prostate")
    file = tmp_path / "prostate" / "site-2" / "dataset.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**told, "labels": {"0": "background", "1": "gland"}}), encoding="utf-8")
    with pytest.raises(SiteDataError, match="gland"):
        own_setup("prostate", ("site-1", "site-2"), tmp_path)
    next((tmp_path / "prostate" / "site-1" / "images").iterdir()).unlink()
    with pytest.raises(SiteDataError, match="site-1"):
        own_setup("prostate", ("site-1",), tmp_path)
    with pytest.raises(SiteDataError, match="no data for dataset"):
        own_setup("prostate", ("site-9",), tmp_path)


def test_a_setup_that_is_there_stays_and_one_of_other_sites_is_refused(tiny: Path, tmp_path: Path) -> None:
    write_setup(own_setup("prostate", ("site-1", "site-2"), tiny), tmp_path)
    file = tmp_path / "setups" / "prostate_own.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("rounds = 10", "rounds = 3"), encoding="utf-8")
    changed = file.read_bytes()
    assert write_setup(own_setup("prostate", ("site-1", "site-2"), tiny), tmp_path) == "prostate_own"
    with pytest.raises(SiteDataError, match="found a comparison of site-1, site-2"):
        write_setup(own_setup("prostate", ("site-1",), tiny), tmp_path)
    assert file.read_bytes() == changed


def test_pictures_of_classes_take_the_bundle_that_they_fit_and_mixtures_none(tmp_path: Path) -> None:
    def site(name: str, ending: str) -> None:
        folder = tmp_path / "mine" / name
        (folder / "images").mkdir(parents=True)
        lists: dict[str, list[dict[str, object]]] = {split: [] for split in ("training", "validation", "test")}
        for number, split in enumerate(("training", "training", "validation", "validation", "test", "test")):
            file = folder / "images" / f"{number}{ending}"
            values = np.random.default_rng([number, len(name)]).integers(0, 255, (40, 40), np.uint8)
            if ending == ".png":
                Image.fromarray(values).save(file)
            else:
                nib.save(nib.Nifti1Image(values[:, :, None].repeat(8, 2).astype(np.float32), np.eye(4)), file)
            lists[split].append({"image": f"images/{file.name}", "patient": f"{name}-{number}", "class": number % 2})
        told = {"name": name, "hospital": name, "labels": {"0": "well", "1": "ill"}, **lists}
        (folder / "dataset.json").write_text(json.dumps(told), encoding="utf-8")

    site("north", ".png")
    site("south", ".png")
    site("volumes", ".nii.gz")
    assert own_setup("mine", ("north", "south"), tmp_path).bundle == "fedopal_classification"
    with pytest.raises(SiteDataError, match="no bundle takes the data of all these sites"):
        own_setup("mine", ("north", "volumes"), tmp_path)
