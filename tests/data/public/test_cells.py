import csv
from collections import Counter

import numpy as np
import pytest
from monai.transforms import EnsureChannelFirst, LoadImage
from PIL import Image

from sitelora.data.check import check_folder
from sitelora.data.prepare import converters, prepare
from sitelora.data.public import cells
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder


def smears(root, site="cellavision", count=30, size=(7, 9)):
    """The release's own layout: RGB pictures, masks of 0, 1, 2, one class a picture."""
    folder = root / site
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for n in range(1, count + 1):
        name = f"{n:03d}.png"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / "images" / name)
        mask = np.zeros(size, np.uint8)
        mask[1:5, 2:6], mask[2:4, 3:5] = 1, 2
        Image.fromarray(mask).save(folder / "masks" / name)
        rows.append({"file": name, "cell_class": 1 + n % 5})
    write_table(folder, rows)
    return folder


def write_table(folder, rows):
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def convert(tmp_path, name="out"):
    (path,) = prepare("cells", source=tmp_path / "in", out=tmp_path / name, sites=["cellavision"])
    return path


def where(path):
    folder = SiteFolder.read(path)
    return {case["patient"]: split for split in SPLITS for case in folder.cases(split)}


def test_cells_is_found_by_looking():
    assert converters()["cells"].SITES == ("jiangxi_tecom", "cellavision")
    assert converters()["cells"].LABELS == {0: "background", 1: "cytoplasm", 2: "nucleus"}


def test_pictures_masks_and_class_arrive_unchanged(tmp_path):
    source = smears(tmp_path / "in")
    path = convert(tmp_path)
    assert path == tmp_path / "out/cells/cellavision"
    assert check_folder(path)[0].problems == ()
    classes = {row["file"]: int(row["cell_class"]) for row in csv.DictReader((source / "labels.csv").open())}
    folder = SiteFolder.read(path)
    entries = [entry for split in SPLITS for entry in folder.splits[split]]
    assert {entry["image"].removeprefix("images/"): entry["cell_class"] for entry in entries} == classes
    for entry in entries:
        name = entry["image"].removeprefix("images/")
        assert (path / entry["image"]).read_bytes() == (source / "images" / name).read_bytes()
        mask = np.asarray(Image.open(source / "masks" / name))
        assert np.array_equal(np.asarray(Image.open(path / entry["label"])), mask)


def test_every_picture_is_its_own_patient_and_the_folder_says_why(tmp_path):
    smears(tmp_path / "in")
    path = convert(tmp_path)
    assert set(where(path)) == {f"picture-{n:03d}" for n in range(1, 31)}
    assert "not named by the source" in SiteFolder.read(path).source["patients"]


def test_monai_reads_three_channels(tmp_path):
    smears(tmp_path / "in", size=(7, 9))
    case = SiteFolder.read(convert(tmp_path)).cases("training")[0]
    image = EnsureChannelFirst()(LoadImage(image_only=True)(case["image"]))
    assert tuple(image.shape) == (3, 9, 7), "MONAI's first axis goes to the right"
    assert np.array_equal(image.numpy().transpose(2, 1, 0), np.asarray(Image.open(case["image"])))


def test_a_picture_more_moves_no_other(tmp_path):
    smears(tmp_path / "in", count=15)
    before = where(convert(tmp_path, "few"))
    smears(tmp_path / "more/in", count=30)
    after = where(convert(tmp_path / "more"))
    assert before.items() <= after.items()
    assert len(after) == 2 * len(before)


def test_split_shares_and_independence_of_the_sites():
    names = [f"{n:04d}.png" for n in range(2000)]
    splits = {site: [cells.split_of(site, name) for name in names] for site in cells.SITES}
    for found in splits.values():
        for split, share in zip(SPLITS, (0.6, 0.1, 0.3), strict=True):
            assert found.count(split) / len(found) == pytest.approx(share, abs=0.03)
    assert splits["jiangxi_tecom"] != splits["cellavision"]


def test_a_picture_under_two_names_is_kept_once(tmp_path):
    source = smears(tmp_path / "in")
    (source / "images/020.png").write_bytes((source / "images/007.png").read_bytes())
    path = convert(tmp_path)
    assert "picture-007" in where(path)
    assert "picture-020" not in where(path)
    assert SiteFolder.read(path).source["same_picture_left_out"] == {"020.png": "007.png"}
    assert not (path / "images/020.png").exists()
    assert check_folder(path)[0].problems == ()


def gray(source):
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(source / "images/003.png")


def other_size(source):
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(source / "masks/003.png")


def other_value(source):
    Image.fromarray(np.full((7, 9), 255, np.uint8)).save(source / "masks/003.png")


def no_mask(source):
    (source / "masks/003.png").unlink()


def no_table(source):
    (source / "labels.csv").unlink()


def other_columns(source):
    write_table(source, [{"file": "003.png", "type": 1}])


def unknown_class(source):
    write_table(source, [{"file": "003.png", "cell_class": 6}])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (gray, r"images/003\.png: found shape \(7, 9\).*RGB"),
        (other_size, r"masks/003\.png: found shape \(9, 7\), expected \(7, 9\)"),
        (other_value, r"masks/003\.png.*255.*\[0, 1, 2\]"),
        (no_mask, r"1 missing file.*masks/003\.png"),
        (no_table, r"no labels\.csv"),
        (other_columns, r"columns \['file', 'type'\]"),
        (unknown_class, r"labels\.csv: found cell_class '6' for 003\.png, expected one of \[1, 2, 3, 4, 5\]"),
    ],
)
def test_what_the_release_may_lack(tmp_path, damage, message):
    damage(smears(tmp_path / "in"))
    with pytest.raises(SiteDataError, match=message):
        convert(tmp_path)
    assert list((tmp_path / "out").rglob("*.png")) == [], "nothing is left of a site that failed"


def test_a_missing_laboratory(tmp_path):
    smears(tmp_path / "in")
    with pytest.raises(SiteDataError, match=r"lacks jiangxi_tecom.*found: cellavision"):
        prepare("cells", source=tmp_path / "in", out=tmp_path / "out")


@pytest.mark.real_data
def test_real_white_blood_cells(real_data, tmp_path):
    source = real_data / "white_blood_cells"
    for path in prepare("cells", source=source, out=tmp_path):
        (result,) = check_folder(path, labels=cells.LABELS)
        assert result.problems == ()
        assert min(result.case_counts.values()) > 0
        folder = SiteFolder.read(path)
        entries = [entry for split in SPLITS for entry in folder.splits[split]]
        rows = list(csv.DictReader((source / path.name / "labels.csv").open()))
        assert len(entries) == len(rows) - len(folder.source["same_picture_left_out"])
        assert 0.45 < result.case_counts["training"] / len(entries) < 0.75
        assert set(Counter(entry["cell_class"] for entry in entries)) <= {1, 2, 3, 4, 5}
        histogram = result.label_histogram
        assert histogram[0] > histogram[1] > histogram[2], "background, cytoplasm, nucleus"
