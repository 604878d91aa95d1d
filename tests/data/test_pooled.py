import json
import logging

import numpy as np
import pytest
from PIL import Image

from sitelora.data.check import check_folder
from sitelora.data.pooled import content_sha256, own_name, own_patient, pool_sites
from sitelora.data.prepare import converters
from sitelora.data.site_folder import DATALIST, SPLITS, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_site_folder

LABELS = {0: "background", 1: "organ"}


def make_site(root, site, names=("1.png", "2.png", "3.png", "4.png"), labels=LABELS, seed=0):
    rng = np.random.default_rng([seed, *site.encode()])
    splits = {split: [] for split in SPLITS}
    pictures = {}
    for number, name in enumerate(names):
        entry = {"image": f"images/{name}", "label": f"labels/{name}", "patient": str(number), "finding": site}
        splits[("training", "training", "validation", "test")[number % 4]].append(entry)
        pictures[name] = rng.integers(0, 256, (5, 6), dtype=np.uint8)

    def fill(path):
        for name, values in pictures.items():
            Image.fromarray(values).save(path / "images" / name)
            Image.fromarray((values > 100).astype(np.uint8)).save(path / "labels" / name)

    folder = SiteFolder(
        path=root / "set" / site,
        name=site,
        hospital=f"hospital of {site}",
        labels=labels,
        splits={split: tuple(entries) for split, entries in splits.items()},
        modality="picture",
    )
    write_site_folder(folder, fill)
    return folder


@pytest.fixture
def root(tmp_path):
    for site in ("east", "west"):
        make_site(tmp_path / "data", site)
    return tmp_path / "data"


def test_every_split_is_the_union_and_every_file_is_its_sites(root, tmp_path):
    path = pool_sites(root, "set", ["west", "east"], tmp_path / "out")
    assert path == tmp_path / "out/set/pooled"
    pooled = SiteFolder.read(path)
    assert pooled.case_counts() == {"training": 4, "validation": 2, "test": 2}
    assert check_folder(path)[0].problems == ()
    for split in SPLITS:
        own = {
            (site, case["patient"]): case for site in ("east", "west")
            for case in SiteFolder.read(root / "set" / site).cases(split)
        }  # fmt: skip
        found = {(case["site"], own_patient(case["site"], case["patient"])): case for case in pooled.cases(split)}
        assert found.keys() == own.keys()
        for key, case in found.items():
            assert case["finding"] == key[0], "other fields stay"
            for kind in ("image", "label"):
                assert (path / case[kind]).read_bytes() == (root / own[key][kind]).read_bytes()


def test_nothing_collides_although_the_sites_use_the_same_names(root, tmp_path):
    pooled = SiteFolder.read(pool_sites(root, "set", ["east", "west"], tmp_path / "out"))
    entries = [entry for split in SPLITS for entry in pooled.splits[split]]
    assert len({entry["image"] for entry in entries}) == len({entry["patient"] for entry in entries}) == 8
    assert {own_name(entry["site"], entry["image"].removeprefix("images/")) for entry in entries} == {
        "1.png", "2.png", "3.png", "4.png"
    }  # fmt: skip


def test_the_order_of_the_sites_changes_nothing(root, tmp_path):
    one, two = (
        pool_sites(root, "set", sites, tmp_path / "_".join(sites)) for sites in (["east", "west"], ["west", "east"])
    )
    assert (one / DATALIST).read_bytes() == (two / DATALIST).read_bytes()


def test_names_that_would_become_one_are_refused(root, tmp_path):
    make_site(root, "a", ["b_c.png", "2.png", "3.png", "4.png"])
    make_site(root, "a_b", ["c.png", "12.png", "13.png", "14.png"])
    with pytest.raises(
        SiteDataError, match=r"a/images/b_c\.png and .*a_b/images/c\.png would both become images/a_b_c"
    ):
        pool_sites(root, "set", ["a", "a_b"], tmp_path / "out")
    assert not (tmp_path / "out/set/pooled").exists()


def test_sites_that_do_not_fit(root, tmp_path):
    make_site(root, "south", labels={0: "background", 1: "other"})
    with pytest.raises(SiteDataError, match=r"site south: found the labels .*other.*expected .*organ.*at east"):
        pool_sites(root, "set", ["east", "south"], tmp_path / "out")
    with pytest.raises(SiteDataError, match="site north: no data"):
        pool_sites(root, "set", ["east", "north"], tmp_path / "out")
    for sites in ([], ["east", "pooled"]):
        with pytest.raises(SiteDataError, match="at least one, and none called 'pooled'"):
            pool_sites(root, "set", sites, tmp_path / "out")


def test_it_says_loudly_where_the_images_now_are(root, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="sitelora.data.pooled"):
        pool_sites(root, "set", ["east", "west"], tmp_path / "out")
        pool_sites(root, "set", ["east", "west"], tmp_path / "out")
    assert [record.getMessage() for record in caplog.records] == [
        f"set: the images of east, west are in ONE place, {tmp_path / 'out/set/pooled'}"
    ], "once: the second call finds the folder complete"


def test_a_site_that_changed_is_noticed(root, tmp_path):
    pool_sites(root, "set", ["east", "west"], tmp_path / "out")
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(root / "set/east/labels/1.png")
    with pytest.raises(SiteDataError, match="left as it is"):
        pool_sites(root, "set", ["east", "west"], tmp_path / "out")
    path = pool_sites(root, "set", ["east", "west"], tmp_path / "out", overwrite=True)
    assert not np.asarray(Image.open(path / "labels/east_1.png")).any()


def test_content_hash_covers_lists_and_files(tmp_path):
    first = make_site(tmp_path / "a", "east")
    before = content_sha256(first)
    assert before == content_sha256(make_site(tmp_path / "b", "east")), "the place makes no difference"
    assert before != content_sha256(make_site(tmp_path / "c", "east", seed=1)), "the pixels do"
    content = json.loads((first.path / DATALIST).read_text())
    content["training"][0]["patient"] = "someone else"
    assert before != content_sha256(SiteFolder.from_json(content, path=first.path)), "the lists do"


def test_pooling_is_no_converter():
    assert "pooled" not in converters(), "`sitelora prepare` must not offer it"
