import json
import os
from pathlib import Path

import pytest

from sitelora.data.site_folder import SiteDataError, SiteFolder, find_site_folder
from sitelora.data.site_writer import write_site_folder


def content(name="site-1", **changes):
    return {
        "name": name,
        "hospital": "General Hospital",
        "modality": "MRI T2",
        "labels": {"0": "background", "1": "prostate"},
        "training": [{"image": "images/a.nii.gz", "label": "labels/a.nii.gz", "patient": "A", "age": 61}],
        "validation": [],
        "test": [{"image": "images/b.nii.gz", "label": "labels/b.nii.gz", "patient": "B"}],
        **changes,
    }


def write(path: Path, data) -> Path:
    path.mkdir(parents=True)
    (path / "dataset.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_read_gives_absolute_paths_and_counts(tmp_path):
    folder = SiteFolder.read(write(tmp_path / "site-1", content()))
    assert folder.case_counts() == {"training": 1, "validation": 0, "test": 1}
    assert folder.labels == {0: "background", 1: "prostate"}
    assert folder.hospital == "General Hospital"
    (case,) = folder.cases("training")
    assert case == {
        "image": str(tmp_path / "site-1/images/a.nii.gz"),
        "label": str(tmp_path / "site-1/labels/a.nii.gz"),
        "patient": "A",
        "age": 61,
    }
    with pytest.raises(KeyError, match="testing"):
        folder.cases("testing")


@pytest.mark.parametrize(
    ("split", "key", "meant"),
    [
        ("test", "testing", "test"),
        ("test", "Test", "test"),
        ("test", " test", "test"),
        ("training", "train", "training"),
        ("validation", "vaildation", "validation"),
        ("validation", "val", "validation"),
    ],
)
def test_a_misspelt_split_is_refused_and_not_left_out(tmp_path, split, key, meant):
    told = content(validation=[{"image": "images/c.png", "label": "labels/c.png", "patient": "C"}])
    told[key] = told.pop(split)
    with pytest.raises(SiteDataError, match=rf"found 1 case\(s\) under '{key}', .* \(did you mean '{meant}'\?\)"):
        SiteFolder.from_json(told, path=tmp_path / "site-1")


def test_cases_under_any_other_key_are_refused_and_other_keys_are_ignored(tmp_path):
    for extra in ([{"image": "a.png"}], [{"Image": "a"}, 5], [{"img": "images/a.NII.gz"}]):
        with pytest.raises(
            SiteDataError, match="under 'fold_2', expected all under training, validation, test; rename"
        ):
            SiteFolder.from_json(content(fold_2=extra), path=tmp_path / "site-1")
    with pytest.raises(SiteDataError, match="under 'testing'"):  # as other programs list what has no label
        SiteFolder.from_json(content(testing=["images/a.nii.gz"]), path=tmp_path / "site-1")
    ignored = {"testing": [], "excluded": ["images/x.png"], "notes": [{"by": "A"}], "fold": 2, "tensorImageSize": "3D"}
    assert SiteFolder.from_json(content(**ignored), path=tmp_path / "site-1").case_counts()["test"] == 1


@pytest.mark.parametrize("key", ["hospital", "modality"])
@pytest.mark.parametrize("value", [None, ["a", "b"], {"0": "MRI"}, 5, True])
def test_what_reports_tell_of_a_site_is_a_text(tmp_path, key, value):
    with pytest.raises(SiteDataError, match=f"{key} is .*, expected a text"):
        SiteFolder.from_json(content(**{key: value}), path=tmp_path / "site-1")


def test_json_round_trip(tmp_path):
    folder = SiteFolder.read(write(tmp_path / "site-1", content()))
    assert SiteFolder.from_json(folder.to_json(), path=folder.path) == folder


def test_absolute_paths_also_from_a_relative_folder(tmp_path, monkeypatch):
    write(tmp_path / "site-1", content())
    monkeypatch.chdir(tmp_path)
    assert Path(SiteFolder.read(Path("site-1")).cases("test")[0]["image"]).is_absolute()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "found list, expected a JSON object"),
        (content(labels=None), "labels"),
        (content(labels={"1": "prostate"}), "background"),
        (content(training={}), "'training' is a dict"),
        (content(training=[{"image": "images/a.png"}]), r"training\[0\].*patient"),
        (content(test=[{"patient": "B"}]), r"test\[0\].*image"),
        (content(training=[{"image": "/a.png", "patient": "A"}]), "relative to the site folder"),
        (content(training=[{"image": "a.png", "label": "../a.png", "patient": "A"}]), "label is '../a.png'"),
        (content(name="site-2"), "the name is 'site-2' and the folder's name is 'site-1'"),
    ],
)
def test_what_breaks_the_contract_is_named(tmp_path, data, message):
    with pytest.raises(SiteDataError, match=message) as caught:
        SiteFolder.read(write(tmp_path / "site-1", data))
    assert "dataset.json" in str(caught.value)


def test_find_names_folder_command_and_variable(tmp_path, monkeypatch):
    folder = write(tmp_path / "prostate" / "site-1", content())
    monkeypatch.setenv("SITELORA_DATA", str(tmp_path))
    assert find_site_folder("prostate", "site-1") == folder
    with pytest.raises(SiteDataError) as caught:
        find_site_folder("prostate", "site-2")
    for part in (str(tmp_path / "prostate/site-2"), "sitelora prepare prostate", "SITELORA_DATA", "site-2"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["../other", "a/b", "", ".", ".hidden", "/etc"])
def test_names_from_a_job_cannot_leave_the_data_root(tmp_path, name):
    with pytest.raises(SiteDataError, match="letters, digits"):
        find_site_folder("prostate", name, tmp_path)
    with pytest.raises(SiteDataError, match="letters, digits"):
        find_site_folder(name, "site-1", tmp_path)


def planned(tmp_path, **changes) -> SiteFolder:
    return SiteFolder.from_json(content(**changes), path=tmp_path / "site-1")


def fill(path: Path, text: str = "x") -> None:
    for name in ("a", "b"):
        for kind in ("images", "labels"):
            (path / kind / f"{name}.nii.gz").write_text(text)


def test_writing_twice_writes_once(tmp_path):
    folder = planned(tmp_path)
    assert write_site_folder(folder, fill)
    assert SiteFolder.read(folder.path) == folder
    assert not write_site_folder(folder, lambda path: pytest.fail("written again"))
    assert [p.name for p in tmp_path.iterdir()] == ["site-1"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    def broken(path):
        fill(path)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_site_folder(planned(tmp_path), broken)
    assert list(tmp_path.iterdir()) == []


def test_other_content_is_kept_unless_asked(tmp_path):
    write_site_folder(planned(tmp_path), fill)
    other = planned(tmp_path, hospital="Another Hospital")
    with pytest.raises(SiteDataError, match="left as it is"):
        write_site_folder(other, lambda path: fill(path, "y"))
    assert (tmp_path / "site-1/images/a.nii.gz").read_text() == "x"
    assert write_site_folder(other, lambda path: fill(path, "y"), overwrite=True)
    assert (tmp_path / "site-1/images/a.nii.gz").read_text() == "y"
    assert [p.name for p in tmp_path.iterdir()] == ["site-1"]


def test_a_failed_overwrite_keeps_the_old_folder(tmp_path):
    write_site_folder(planned(tmp_path), fill)

    def broken(path):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_site_folder(planned(tmp_path, hospital="Another"), broken, overwrite=True)
    assert SiteFolder.read(tmp_path / "site-1").hospital == "General Hospital"


def test_a_missing_file_is_not_the_same_folder(tmp_path):
    write_site_folder(planned(tmp_path), fill)
    (tmp_path / "site-1/labels/b.nii.gz").unlink()
    with pytest.raises(SiteDataError, match="missing files"):
        write_site_folder(planned(tmp_path), fill)
    assert write_site_folder(planned(tmp_path), fill, overwrite=True)


def test_a_move_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    write_site_folder(planned(tmp_path), fill)
    rename = Path.rename

    def failing(path, target):
        if ".partial-" in path.name:
            raise OSError("no permission")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no permission"):
        write_site_folder(planned(tmp_path, hospital="Another"), fill, overwrite=True)
    assert SiteFolder.read(tmp_path / "site-1").hospital == "General Hospital"
    assert [p.name for p in tmp_path.iterdir()] == ["site-1"]


def test_what_a_killed_run_left_is_undone(tmp_path):
    write_site_folder(planned(tmp_path), fill)
    (tmp_path / "site-1").rename(tmp_path / ".site-1.old-1")  # killed between the two moves
    begun, running = tmp_path / ".site-1.partial-1", tmp_path / ".site-1.partial-2"
    for partial in (begun, running):
        (partial / "images").mkdir(parents=True)
    os.utime(begun, (0, 0))
    assert not write_site_folder(planned(tmp_path), lambda path: pytest.fail("written again"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [running.name, "site-1"], "a running writer is left alone"
