"""MoNuSeg's tiles as site folders: pieces of a tile stay together, and a site of one tile is for testing only."""

import csv

import numpy as np
import pytest
from PIL import Image

from sitelora.data.check import check_site_folder
from sitelora.data.prepare import converters, prepare
from sitelora.data.public import nuclei
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder


def release(root, tiles, side=500):
    """Tiles by code of their source site, in the release's own layout."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for code, count in tiles.items():
        for n in range(count):
            file = f"TCGA-{code}-{n}.png"
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(root / "images" / file)
            Image.fromarray((rng.random((side, side)) > 0.7).astype(np.uint8) * 255).save(root / "masks" / file)
            rows.append({"file": file, "split_in_source": "train", "tcga_tissue_source_site": code})
    with (root / "index.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def test_every_source_site_becomes_a_site_and_tiles_are_cut_without_loss(tmp_path):
    source = release(tmp_path / "in", {"G9": 3, "A7": 2, "2Z": 1})
    sites = ["site-g9", "site-a7", "site-2z"]
    folders = {p.name: SiteFolder.read(p) for p in prepare("nuclei", source=source, out=tmp_path / "out", sites=sites)}
    assert {n: [f.case_counts()[s] for s in SPLITS] for n, f in folders.items()} == {
        "site-g9": [16, 16, 16],
        "site-a7": [16, 0, 16],
        "site-2z": [0, 0, 16],
    }
    for name in ("site-g9", "site-a7"):
        check_site_folder(folders[name].path).raise_if_bad()
    case = folders["site-2z"].cases("test")[5]  # second row, second column
    whole = np.asarray(Image.open(source / "images" / "TCGA-2Z-0.png"))
    assert np.array_equal(np.asarray(Image.open(case["image"])), whole[125:250, 125:250])
    mask = np.asarray(Image.open(case["label"]))
    assert np.array_equal(mask, np.asarray(Image.open(source / "masks" / "TCGA-2Z-0.png"))[125:250, 125:250] // 255)


def test_no_tile_is_in_two_splits_and_the_lists_of_sites_are_whole():
    for count in (1, 2, 3, 5):
        splits = nuclei.splits_of([f"{n}.png" for n in range(count)])
        used = [tile for chosen in splits.values() for tile in chosen]
        assert sorted(used) == [f"{n}.png" for n in range(count)]
        assert len(splits["test"]) == 1
    assert converters()["nuclei"].SITES == nuclei.SITES
    assert (len(nuclei.TRAINING_SITES), len(nuclei.LEFT_OUT_SITES), len(set(nuclei.SITES))) == (7, 25, 32)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(SiteDataError, match=r"nuclei: no source; expected --source DIR with images"):
        prepare("nuclei", source=None, out=tmp_path / "out")
    source = release(tmp_path / "in", {"G9": 1}, side=100)
    with pytest.raises(SiteDataError, match="no tile of site-a7"):
        prepare("nuclei", source=source, out=tmp_path / "out", sites=["site-a7"])
    with pytest.raises(SiteDataError, match=r"TCGA-G9-0\.png: found shapes \(100, 100, 3\)"):
        prepare("nuclei", source=source, out=tmp_path / "out", sites=["site-g9"])
    (source / "masks" / "TCGA-G9-0.png").unlink()
    with pytest.raises(SiteDataError, match=r"names TCGA-G9-0\.png, found none in masks"):
        prepare("nuclei", source=source, out=tmp_path / "out", sites=["site-g9"])


@pytest.mark.real_data
def test_the_real_release_has_sites_that_train_and_sites_that_cannot(real_data, tmp_path):
    source = real_data / "monuseg"
    for path in prepare("nuclei", source=source, out=tmp_path, sites=["site-e2", "site-18"]):
        folder = SiteFolder.read(path)
        assert bool(folder.cases("training")) == (folder.name in nuclei.TRAINING_SITES)
