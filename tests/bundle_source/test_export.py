"""The committed bundles are what the source says; a bundle is one small file, whose every value has its reason."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from monai.bundle import verify_metadata, verify_net_in_out

from sitelora.bundle_source.export import (
    CONFIGS,
    SOURCE,
    BundleSourceError,
    find_source,
    source_names,
    write_bundle,
)
from sitelora.cli import main
from sitelora.model_export.checks import SCHEMA

EXAMPLE = "iat_segmentation"
every_bundle = pytest.mark.parametrize("name", source_names())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def said_of(name: str) -> dict:
    return yaml.safe_load(find_source(name).read_text(encoding="utf-8"))


def written(said: dict, folder: Path, *, source: Path = SOURCE, name: str = "new_segmentation") -> Path:
    """Export a bundle's file that says this."""
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    return write_bundle(folder / f"{name}.yaml", folder / name, source=source)


def test_the_committed_bundles_are_a_fresh_export(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", "--all", "--out", str(tmp_path)]) == 0
    exported = [Path(line) for line in capsys.readouterr().out.splitlines()]
    committed = sorted(path for path in (repository / "bundles").iterdir() if path.is_dir())
    assert [path.name for path in exported] == [path.name for path in committed] == source_names()
    for one, other in zip(exported, committed, strict=True):
        assert files_of(one) == files_of(other), f"run make export: bundles/{one.name} differs from its source"


def test_the_command_lists_the_bundles_and_writes_one(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle"]) == 0
    assert capsys.readouterr().out.split() == source_names()
    assert main(["bundle", EXAMPLE, "--out", str(tmp_path)]) == 0
    assert files_of(tmp_path / EXAMPLE) == files_of(repository / "bundles" / EXAMPLE)
    assert main(["bundle", "iat_segmentatoin", "--out", str(tmp_path)]) == 2
    assert "did you mean 'iat_segmentation'" in capsys.readouterr().err


@every_bundle
def test_every_value_that_a_bundle_has_of_its_own_has_its_reason_beside_it(name: str) -> None:
    lines = find_source(name).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    root = yaml.compose("\n".join(lines))
    for part, values in root.value:
        if part.value in ("train", "inference", "evaluate", "settings"):
            for key, _ in values.value:
                above = lines[key.start_mark.line - 1].strip()
                assert above.startswith("# "), f"{name}.yaml: say above {part.value}, {key.value} why it differs"


@every_bundle
def test_no_bundle_repeats_what_the_source_says(name: str, tmp_path: Path) -> None:
    said = said_of(name)
    whole = files_of(written(said, tmp_path, name=name))
    for part in set(CONFIGS) & said.keys():
        for id in said[part]:
            less = {**said, part: {key: value for key, value in said[part].items() if key != id}}
            try:
                assert files_of(written(less, tmp_path, name=name)) != whole, f"{name}: {part}, {id} is the source's"
            except BundleSourceError:  # it has to be said
                continue


def test_what_is_compared_with_iat_trains_as_iat_does() -> None:
    own = {name: set(said_of(name)["train"]) for name in source_names()}
    assert own["iat_segmentation"] == own["fedsca_segmentation"] == {"method"}
    assert own["baseline_segmentation"] == {"method", "method_name", "+imports"}


def test_one_small_file_is_a_whole_bundle(repository: Path, tmp_path: Path) -> None:
    said = said_of(EXAMPLE)
    said["train"] = {"method": {"_target_": "sitelora.methods.fedprox.fedprox", "rank": 4}, "image_size": 64}
    said["readme"] = {**said["readme"], "loss_more": ""}
    said["readme"]["choices"] = "Rank {{ train.method.rank }} is our choice.\n"
    said["readme"]["rows"] = {"Adapters": "LoRA"}
    folder = written(said, tmp_path)
    assert files_of(folder).keys() == files_of(repository / "bundles" / EXAMPLE).keys()
    configs = {name: folder / "configs" / f"{name}.json" for name in CONFIGS}
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")  # there already, so nothing is downloaded
    verify_metadata(meta_file=str(configs["metadata"]), filepath=schema)
    verify_net_in_out(
        "network_def", meta_file=str(configs["metadata"]), config_file=str(configs["inference"]), device="cpu"
    )
    assert "'new_segmentation'" in configs["train"].read_text()
    assert '"spatial_shape": [64, 64, 5]' in configs["metadata"].read_text()
    assert "Rank 4 is our choice." in (folder / "docs" / "README.md").read_text()


def test_another_task_says_what_is_its_own_and_nothing_else(repository: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(SOURCE / "common", source / "common")
    (source / "tasks" / "other" / "configs").mkdir(parents=True)
    asked: dict[str, list[str]] = {}
    for part in CONFIGS:
        content = json.loads((SOURCE / "common" / "configs" / f"{part}.json").read_text())
        inner = {f"{key}#{id}": value for key in ("train", "validate") for id, value in content.get(key, {}).items()}
        asked[part] = [id for id, value in {**content, **inner}.items() if value == "<what the task says>"]
        values = {id: f"the task's {id.rpartition('#')[2]}" for id in asked[part]}
        (source / "tasks" / "other" / "configs" / f"{part}.json").write_text(json.dumps(values))
    assert "loss" in asked["train"]
    assert "train#key_metric" in asked["train"]
    (source / "tasks" / "other" / "docs").mkdir()
    readme = '{% extends "common/docs/README.md" %}{% block data %}- Another target\n{% endblock %}'
    (source / "tasks" / "other" / "docs" / "README.md").write_text(readme)
    said = {**said_of(EXAMPLE), "task": "other"}
    other, ours = written(said, tmp_path, source=source, name=EXAMPLE), repository / "bundles" / EXAMPLE
    one, two = (json.loads((folder / "configs" / "train.json").read_text()) for folder in (ours, other))
    assert one.pop("crops_per_volume") == 1  # a value that only segmentation has
    for id in asked["train"]:
        part, _, key = id.rpartition("#")
        below = (one[part], two[part]) if part else (one, two)
        assert below[0].pop(key) != below[1].pop(key) == f"the task's {key}"
    assert two == one
    assert "- Another target" in (other / "docs" / "README.md").read_text()
    for file in ("LICENSE", "configs/logging.conf", "docs/data_license.txt"):
        assert (other / file).read_bytes() == (ours / file).read_bytes()


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("train", {"method": "<what the bundle says>"}, "train: the bundle has to say 'method'"),
        ("train", {"learning_rat": 0.1}, "nothing has or uses 'learning_rat' (did you mean 'learning_rate'?)"),
        ("inference", {"network#part": 1}, "nothing below has 'network#part'"),
        ("inference", {"nowhere#part": 1}, "nothing below has 'nowhere#part'"),
        ("train", {"seed": "{{ train.seed }}"}, "'train' is undefined"),
        ("metadata", {"name": "{{ trian.arch }}"}, "'trian' is undefined"),
        ("readme", {"choices": "{{ train.method.rnak }}"}, "no attribute 'rnak'"),
        ("trian", {}, "found 'trian' (did you mean 'train'?)"),
    ],
)
def test_a_slip_of_the_pen_is_one_sentence(part: str, change: dict, told: str, tmp_path: Path) -> None:
    said = said_of(EXAMPLE)
    with pytest.raises(BundleSourceError) as caught:
        written({**said, part: {**said.get(part, {}), **change}}, tmp_path)
    assert told in str(caught.value)
    assert not (tmp_path / "new_segmentation").exists()


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ("task", "expected a task, one of classification, segmentation"),
        ("readme", "and a readme"),
        ("train", "has to say 'method'"),
    ],
)
def test_what_has_to_be_said_is_asked_for(without: str, told: str, tmp_path: Path) -> None:
    said = said_of(EXAMPLE)
    del said[without]
    with pytest.raises(BundleSourceError, match=told):
        written(said, tmp_path)


def test_models_stay_and_so_does_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    folder = write_bundle(find_source(EXAMPLE), tmp_path / EXAMPLE)
    (folder / "models").mkdir()
    (folder / "models" / "model.pt").write_bytes(b"a site's model")
    (folder / "configs" / "old.json").write_text("{}")
    write_bundle(find_source(EXAMPLE), folder)
    assert (folder / "models" / "model.pt").read_bytes() == b"a site's model"
    assert not (folder / "configs" / "old.json").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(BundleSourceError, match="is no bundle, so it stays"):
        write_bundle(find_source(EXAMPLE), tmp_path / "mine")
