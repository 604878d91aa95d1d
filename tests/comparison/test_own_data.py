"""A comparison on any folder that passes the check: what is read off it, and that a bad one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

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
