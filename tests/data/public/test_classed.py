"""Public releases with a class per case: small files in their layouts, and the real ones where they are."""

import csv
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from sitelora.data.check import check_folder
from sitelora.data.prepare import prepare
from sitelora.data.public.acdc import SIMULATED
from sitelora.data.public.classed import SHARES, ClassedCase, split_patients
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")


def classes(path):
    folder = SiteFolder.read(path)
    return {split: Counter(case["class"] for case in folder.cases(split)) for split in SPLITS}


def patients(path):
    folder = SiteFolder.read(path)
    return {split: {case["patient"] for case in folder.cases(split)} for split in SPLITS}


def cine(root, count=20, folder="training"):
    """ACDC's own layout, labels of the challenge beside the frames."""
    rng = np.random.default_rng(0)
    for number in range(1, count + 1):
        name = f"patient{number:03d}"
        place = root / folder / name
        place.mkdir(parents=True)
        for frame in (1, 9):
            voxels = rng.integers(0, 256, (8, 9, 5), dtype=np.uint8)
            nib.save(nib.Nifti1Image(voxels, np.diag([1.5, 1.5, 10.0, 1.0])), place / f"{name}_frame{frame:02d}.nii.gz")
            nib.save(nib.Nifti1Image(voxels // 64, np.eye(4)), place / f"{name}_frame{frame:02d}_gt.nii.gz")
        (place / "Info.cfg").write_text(f"ED: 1\nES: 9\nGroup: {GROUPS[number % 5]}\nHeight: 170.0\nNbFrame: 30\n")
    return root


def pictures(root, site, rows, shape=(6, 7)):
    folder = root / site
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for row in rows:
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / "images" / row["file"])
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def xrays(root, site="montgomery", count=20):
    rows = [{"file": f"MCUCXR_{n:04d}_{n % 2}.png", "tuberculosis": n % 2, "has_mask": 0} for n in range(count)]
    return pictures(root, site, rows)


def smears(root, site="cellavision", count=25):
    rows = [{"file": f"{n:03d}.png", "cell_class": 1 + n % 5} for n in range(count)]
    return pictures(root, site, rows, (6, 7, 3))


def test_acdc_becomes_one_file_of_two_phases_a_patient(tmp_path):
    source = cine(tmp_path / "in")
    (path,) = prepare("acdc", source=source, out=tmp_path)
    assert path == tmp_path / "acdc" / "acdc"
    assert check_folder(path)[0].problems == ()
    folder = SiteFolder.read(path)
    assert folder.case_counts() == {"training": 10, "validation": 5, "test": 5}
    for case in folder.cases("test"):
        image = nib.load(case["image"])
        place = source / "training" / case["patient"]
        for phase, frame in enumerate((1, 9)):
            original = nib.load(place / f"{case['patient']}_frame{frame:02d}.nii.gz")
            assert np.array_equal(np.asarray(image.dataobj)[..., phase], np.asarray(original.dataobj))
        assert image.get_data_dtype() == np.uint8
        assert image.header.get_zooms()[:3] == (1.5, 1.5, 10.0)
        assert case["class"] == int(case["group"] != "NOR")
    assert {case["group"] for case in folder.cases("test")} == set(GROUPS)
    assert "nominal" in folder.source["spacing"]


def test_acdc_dealt_out_is_called_a_simulation(tmp_path):
    source = cine(tmp_path / "in", count=45)
    paths = prepare("acdc", source=source, out=tmp_path, sites=SIMULATED)
    everyone = [set.union(*patients(path).values()) for path in paths]
    assert [len(one) for one in everyone] == [15, 15, 15]
    assert len(set.union(*everyone)) == 45
    for path in paths:
        folder = SiteFolder.read(path)
        assert folder.hospital.startswith("Simulated site")
        assert "not a hospital" in folder.source["simulated"]
        assert all(counts[0] and counts[1] for counts in classes(path).values())
    assert not (tmp_path / "acdc" / "acdc").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda place: (place / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: HFPEF\n"), "HFPEF"),
        (lambda place: (place / "Info.cfg").write_text("ED: 1\nGroup: NOR\n"), "frame numbers ED and ES"),
        (lambda place: (place / "patient003_frame09.nii.gz").unlink(), "patient003_frame09.nii.gz"),
        (
            lambda place: nib.save(
                nib.Nifti1Image(np.zeros((8, 9, 4), np.uint8), np.diag([1.5, 1.5, 10.0, 1.0])),
                place / "patient003_frame09.nii.gz",
            ),
            "on one grid",
        ),
        (lambda place: cine(place.parents[1], count=3, folder="testing"), "two places"),
    ],
    ids=["group", "frame number", "frame", "grid", "twice"],
)
def test_an_acdc_that_is_not_the_release_is_refused(tmp_path, damage, said):
    damage(cine(tmp_path / "in", count=5) / "training" / "patient003")
    with pytest.raises(SiteDataError, match=said):
        prepare("acdc", source=tmp_path / "in", out=tmp_path)
    assert not (tmp_path / "acdc" / "acdc").exists()


def test_tuberculosis_takes_pictures_without_a_mask_too(tmp_path):
    source = xrays(tmp_path / "in")
    (path,) = prepare("tuberculosis", source=tmp_path / "in", out=tmp_path, sites=["montgomery"])
    assert check_folder(path)[0].problems == ()
    assert classes(path) == {"training": {0: 5, 1: 5}, "validation": {0: 2, 1: 2}, "test": {0: 3, 1: 3}}
    for case in SiteFolder.read(path).cases("training"):
        assert case["image"].endswith(f"{case['patient']}_{case['class']}.png")
        name = case["image"].rpartition("/")[2]
        assert (path / "images" / name).read_bytes() == (source / "images" / name).read_bytes()
    text = (source / "labels.csv").read_text().replace(",1,0", ",2,0", 1)
    (source / "labels.csv").write_text(text)
    with pytest.raises(SiteDataError, match="expected 0 or 1"):
        prepare("tuberculosis", source=tmp_path / "in", out=tmp_path / "b", sites=["montgomery"])


def test_cell_types_count_from_zero_and_a_repeated_picture_is_left_out(tmp_path):
    source = smears(tmp_path / "in")
    (source / "images" / "007.png").write_bytes((source / "images" / "002.png").read_bytes())
    (path,) = prepare("cell_types", source=tmp_path / "in", out=tmp_path, sites=["cellavision"])
    assert check_folder(path)[0].problems == ()
    folder = SiteFolder.read(path)
    assert folder.labels[0] == "neutrophil"
    assert sum(folder.case_counts().values()) == 24
    assert folder.source["same_picture_left_out"] == {"007.png": "002.png"}
    table = {row["file"]: int(row["cell_class"]) for row in csv.DictReader((source / "labels.csv").open())}
    for split in SPLITS:
        for case in folder.cases(split):
            assert case["class"] == table[case["image"].rpartition("/")[2]] - 1


def case(patient, truth, number=0):
    return ClassedCase(file=f"{patient}-{number}.png", patient=patient, truth=truth, write=lambda path: None)


def test_patients_stay_together_and_every_class_is_in_every_split():
    many = [case(f"P-{n}", n % 3, number) for n in range(30) for number in range(2)]
    splits = split_patients(many, ("a",))
    names = {split: {one.patient for one in splits[split]} for split in SPLITS}
    assert sum(map(len, names.values())) == len(set.union(*names.values())) == 30
    for split in SPLITS:
        counts = Counter(one.truth for one in splits[split])
        assert set(counts.values()) == {2 * round(10 * SHARES[split])}
    assert split_patients(reversed(many), ("a",))["test"] != split_patients(many, ("b",))["test"]
    assert {p.patient for p in split_patients(reversed(many), ("a",))["test"]} == names["test"]


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (5, (2, 1, 2))])
def test_few_patients_of_a_class_train_first(count, expected):
    splits = split_patients([case(f"P-{n}", 0) for n in range(count)], ("a",))
    assert tuple(len(splits[split]) for split in SPLITS) == expected


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "folder", "cases"),
    [("acdc", "acdc", {"acdc": 75}), ("tuberculosis", "chest_xray", {"montgomery": 103, "shenzhen": 496}),
     ("cell_types", "white_blood_cells", {"jiangxi_tecom": 224, "cellavision": 75})],
)  # fmt: skip
def test_real_releases(real_data, tmp_path, name, folder, cases):
    paths = prepare(name, source=real_data / folder, out=tmp_path)
    results = check_folder(tmp_path / name)
    assert [result.errors for result in results] == [()] * len(paths)
    for path in paths:
        counts = classes(path)
        assert sum(sum(split.values()) for split in counts.values()) == cases[path.name]
        shares = {split: counts[split][1] / sum(counts[split].values()) for split in SPLITS}
        assert max(shares.values()) - min(shares.values()) < 0.1
    said = {result.site: [problem.found for problem in result.warnings] for result in results}
    if name == "cell_types":
        assert "no case of class 4 ('basophil')" in said["jiangxi_tecom"][0]
