"""Which cases a run has: by seed and site alone, nested in their number, patients whole, tests never trained on."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sitelora.comparison.evidence.arrangement import arranged, part_of, repeats, sites_of, write_arranged
from sitelora.comparison.evidence.experiment import Cell, Experiment, find_experiment
from sitelora.data.pooled import pool_sites
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder
from sitelora.data.site_writer import write_selection


def folder(name: str = "a", *, training: int = 8, validation: int = 2, test: int = 4, each: int = 1) -> SiteFolder:
    """A site whose patients have so many cases each."""
    splits: dict[str, Any] = {}
    for split, count in zip(SPLITS, (training, validation, test), strict=True):
        splits[split] = tuple(
            {"image": f"images/{split}{p}_{c}.png", "label": f"labels/{split}{p}_{c}.png", "patient": f"{split}{p}"}
            for p in range(count)
            for c in range(each)
        )
    return SiteFolder(path=Path("x") / name, name=name, hospital=name, labels={0: "background"}, splits=splits)


def images(one: SiteFolder, split: str) -> list[str]:
    return [entry["image"] for entry in one.splits[split]]


def test_cases_are_drawn_by_seed_and_site_and_fewer_begin_more() -> None:
    whole = folder()
    four, two = (arranged(whole, seed=0, cases=count) for count in (4, 2))
    assert images(two, "training") == images(four, "training")[:2]
    assert images(two, "test") == images(whole, "test")
    assert images(two, "validation") == images(whole, "validation")
    draws = {tuple(images(arranged(whole, seed=seed, cases=2), "training")) for seed in range(6)}
    assert len(draws) > 1
    other = arranged(folder("b"), seed=0, cases=8)
    assert images(other, "training") != images(arranged(whole, seed=0, cases=8), "training")
    with pytest.raises(SiteDataError, match="found 8 training cases, expected 9"):
        arranged(whole, seed=0, cases=9)


@pytest.mark.parametrize(("patients", "tested", "validating"), [(2, 1, 0), (3, 1, 1), (5, 2, 1)])
def test_folds_test_other_patients_and_never_train_on_them(patients: int, tested: int, validating: int) -> None:
    whole = folder(training=patients - 1, validation=0, test=1, each=3)
    turned = [arranged(whole, seed=seed, folds=2) for seed in (0, 1, 2)]
    seen, validated = [], set[str]()
    for one in turned:
        by_split = {split: {entry["patient"] for entry in one.splits[split]} for split in SPLITS}
        assert [len(by_split["test"]), len(by_split["validation"])] == [tested, validating]
        assert len(set.union(*by_split.values())) == patients == sum(map(len, by_split.values()))
        seen.append(by_split["test"])
        validated |= by_split["validation"]
    assert not seen[0] & seen[1]
    assert len(validated) == validating
    assert not validated & (seen[0] | seen[1])
    assert seen[0] == seen[2]


def test_a_site_that_only_tests_stays_and_one_patient_cannot_be_rotated() -> None:
    only = folder(training=0, validation=0, test=1)
    assert arranged(only, seed=1, folds=2).splits == only.splits
    with pytest.raises(SiteDataError, match="one patient"):
        arranged(folder(training=1, validation=0, test=0), seed=0, folds=2)


def test_parts_of_a_site_share_no_patient_and_are_all_of_it() -> None:
    whole = folder(training=7, validation=3, test=4, each=2)
    parts = [part_of(whole, part, 3, seed=0) for part in (1, 2, 3)]
    assert [part.name for part in parts] == ["a-1", "a-2", "a-3"]
    for split in SPLITS:
        seen = [{entry["patient"] for entry in part.splits[split]} for part in parts]
        assert set.union(*seen) == {entry["patient"] for entry in whole.splits[split]}
        assert sum(map(len, seen)) == len(set.union(*seen))
        assert max(map(len, seen)) - min(map(len, seen)) <= 1
    assert part_of(whole, 1, 3, seed=1).splits != parts[0].splits
    with pytest.raises(SiteDataError, match="2 patients of validation, expected 3"):
        part_of(folder(validation=2), 1, 3, seed=0)


def test_simulated_sites_are_written_from_the_site_they_are_cut_from(
    tiny: Path, tmp_path: Path, toy: Experiment
) -> None:
    asks = replace(toy, dataset="prostate", sites=("site-1-1", "site-2-1"), parts=1)
    with pytest.raises(SiteDataError):
        write_arranged(tiny, asks, Cell(title="one"), 0, tmp_path / "none")
    cut = replace(asks, parts=2, sites=("site-2-1", "site-2-2"))
    names = write_arranged(bigger(tiny, tmp_path / "data"), cut, Cell(title="one"), 0, tmp_path / "out")
    assert set(names) == {"site-2-1", "site-2-2"}
    assert not set(names["site-2-1"]["training"]) & set(names["site-2-2"]["training"])
    read = SiteFolder.read(tmp_path / "out" / "prostate" / "site-2-1")
    assert len(read.splits["training"]) == len(names["site-2-1"]["training"])


def bigger(root: Path, out: Path) -> Path:
    """The tiny second site with every case in every split, each a patient of its own in it."""
    folder = SiteFolder.read(root / "prostate" / "site-2")
    entries = [entry for split in SPLITS for entry in folder.splits[split]]
    splits = {s: tuple({**e, "patient": f"{s}{n}"} for n, e in enumerate(entries[:2])) for s in SPLITS}
    write_selection(folder, replace(folder, path=out / "prostate" / "site-2", splits=splits), shutil.copyfile)
    return out


def test_sites_at_once_are_drawn_by_the_seed() -> None:
    asks = find_experiment("e2")
    two = {seed: sites_of(asks, asks.cells["k2"], seed) for seed in range(6)}
    four = sites_of(asks, asks.cells["k4"], 0)
    assert {len(sites) for sites in two.values()} == {2}
    assert set(two[0]) < set(four) < set(asks.sites)
    assert len(set(two.values())) > 1
    assert sites_of(asks, asks.cells["k7"], 0) == tuple(asks.sites)


def test_what_is_written_is_what_was_drawn(tiny: Path, tmp_path: Path, toy: Experiment) -> None:
    asks = replace(toy, dataset="prostate", sites=("site-1", "site-2"))
    lists = write_arranged(tiny, asks, Cell(title="", cases={"site-1": 1}), 0, tmp_path)
    written = {site: SiteFolder.read(tmp_path / "prostate" / site) for site in asks.sites}
    assert {site: one.case_counts()["training"] for site, one in written.items()} == {"site-1": 1, "site-2": 2}
    assert [len(lists["site-1"][split]) for split in SPLITS] == [1, 1, 1]
    for one in written.values():
        for split in SPLITS:
            assert all(Path(case["image"]).is_file() for case in one.cases(split))


def test_a_balanced_pool_repeats_the_training_cases_of_the_small(tiny: Path, tmp_path: Path, toy: Experiment) -> None:
    asks = replace(toy, dataset="prostate", sites=("site-1", "site-2"))
    write_arranged(tiny, asks, Cell(title="", cases={"site-1": 1}), 0, tmp_path)
    folders = [SiteFolder.read(tmp_path / "prostate" / site) for site in asks.sites]
    often = repeats(folders)
    assert often == {"site-1": 2, "site-2": 1}
    pool_sites(tmp_path, "prostate", asks.sites, tmp_path / "all", repeats=often)
    pooled = SiteFolder.read(tmp_path / "all" / "prostate" / "pooled")
    assert pooled.case_counts() == {"training": 4, "validation": 2, "test": 2}
    same = [case for case in pooled.cases("training") if case["site"] == "site-1"]
    assert len({case["image"] for case in same}) == 2
    assert len({Path(case["image"]).read_bytes() for case in same}) == 1


def test_five_folds_test_every_patient_but_those_for_validation_once_and_keep_classes_in_proportion() -> None:
    whole = folder(training=13, validation=5, test=12)
    splits = {
        split: tuple({**entry, "class": int(number < 2)} for number, entry in enumerate(entries))
        for split, entries in whole.splits.items()
    }
    whole = replace(whole, splits=splits)
    classes = {entry["patient"]: entry["class"] for entries in splits.values() for entry in entries}
    turned = [arranged(whole, seed=seed, folds=5) for seed in range(6)]
    assert turned[0].splits == turned[5].splits
    tested = [entry["patient"] for one in turned[:5] for entry in one.splits["test"]]
    validated = {entry["patient"] for entry in turned[0].splits["validation"]}
    assert sorted([*tested, *validated]) == sorted(classes)
    for one in turned:
        lists = {split: [entry["patient"] for entry in one.splits[split]] for split in SPLITS}
        assert {split: len(found) for split, found in lists.items()} == {"training": 20, "validation": 5, "test": 5}
        assert sorted(itertools.chain(*lists.values())) == sorted(classes)
        assert set(lists["validation"]) == validated
        assert [sum(classes[patient] for patient in lists[split]) for split in ("test", "validation")] == [1, 1]
    with pytest.raises(SiteDataError, match="found 5 patients, expected 6 or more"):
        arranged(folder(training=3, validation=0, test=2), seed=0, folds=5)


def test_a_drawn_experiment_draws_its_cell_once(tmp_path: Path) -> None:
    """The knobs of the cell are those of the site folders, and a second run finds them there."""
    asks = find_experiment("e3")
    cell = asks.cells["a1s2"]
    one = replace(asks, sites=asks.sites[:1])
    names = write_arranged(tmp_path / "data", one, cell, 0, tmp_path / "first")
    assert {split: len(found) for split, found in names["site-1"].items()} == {
        "training": 16,
        "validation": 8,
        "test": 40,
    }
    place = tmp_path / "data" / "drawn_a1_s2" / "prostate_shifts" / "site-1" / "dataset.json"
    before = place.stat().st_mtime_ns
    assert write_arranged(tmp_path / "data", one, cell, 1, tmp_path / "second") == names
    assert place.stat().st_mtime_ns == before
