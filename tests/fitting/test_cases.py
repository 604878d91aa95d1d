"""What a probe runs on: a site's own cases by link, the phantom, or random ones that pass the very check of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sitelora.data.check import check_site_folder
from sitelora.data.needs import DataNeeds
from sitelora.data.phantom.make import PhantomSize, make_phantom
from sitelora.data.site_folder import SiteDataError, SiteFolder
from sitelora.federation.bundle_config import data_needs, read_bundle
from sitelora.fitting.cases import OWN, PHANTOM, PROBED, RANDOM, described, probe_cases


def needs_of(bundle: str, **values: Any) -> DataNeeds:
    return data_needs(bundle, read_bundle(bundle, values))


@pytest.mark.parametrize(
    ("bundle", "values"),
    [
        ("iat_segmentation", {"classes": 2}),
        ("iat_segmentation", {"classes": 3, "pictures": True}),
        ("med_duallora_classification", {"classes": 2}),
        ("fedopal_classification", {"classes": 3}),
    ],
)
def test_random_cases_are_fit_for_training(tmp_path: Path, bundle: str, values: dict[str, Any]) -> None:
    needs = needs_of(bundle, **values)
    found = probe_cases("strange", "site-1", needs, root=None, out=tmp_path, named=False)
    assert (found.kind, found.artificial) == (RANDOM, True)
    check_site_folder(found.folder, needs=needs).raise_if_bad()
    assert SiteFolder.read(found.folder).case_counts() == PROBED
    assert "random pixels" in described(found, "site-1")


def test_a_few_of_a_sites_own_cases_are_linked(tmp_path: Path) -> None:
    size = PhantomSize(training=6, validation=1, test=0, matrix=32, slices=6)
    make_phantom(tmp_path / "data", sites=["site-1"], size=size)
    given: dict[str, Any] = {"root": tmp_path / "data", "out": tmp_path / "out", "named": True}
    found = probe_cases("prostate", "site-1", needs_of("iat_segmentation"), **given)
    assert (found.kind, found.artificial) == (OWN, False)
    assert found.counts == {"training": 6, "validation": 1, "test": 0}
    few = SiteFolder.read(found.folder)
    assert few.case_counts() == {"training": 4, "validation": 1, "test": 0}
    images = [Path(case["image"]) for case in few.cases("training")]
    assert len(set(images)) == 4
    assert all(image.is_symlink() for image in images)
    sizes = [image.stat().st_size for image in images]
    own = [
        Path(case["image"]).stat().st_size
        for case in SiteFolder.read(tmp_path / "data/prostate/site-1").cases("training")
    ]
    assert (sizes[0], sizes[-1]) == (max(own), min(own)), "from the largest to the smallest"
    check_site_folder(found.folder, needs=needs_of("iat_segmentation")).raise_if_bad()


def test_without_data_the_phantom_is_drawn_unless_a_folder_was_named(tmp_path: Path) -> None:
    needs = needs_of("med_duallora_classification")
    found = probe_cases("cine", "vendor-b", needs, root=None, out=tmp_path, named=False)
    assert (found.kind, found.counts["training"]) == (PHANTOM, 40)
    assert SiteFolder.read(found.folder).case_counts() == PROBED
    with pytest.raises(SiteDataError, match="no data for dataset 'cine'"):
        probe_cases("cine", "vendor-b", needs, root=tmp_path / "none", out=tmp_path, named=True)
