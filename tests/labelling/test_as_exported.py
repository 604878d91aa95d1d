"""What is not as it was exported is refused before a server starts, with the reason and the way back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sitelora.disk import file_sha256
from sitelora.labelling.as_exported import NotServedError, changed, choose
from sitelora.model_export.versions import Version, bundles_in

SERVED = ("iat_prostate_site-1_segmentation", "iat_prostate_site-2_segmentation")
OLDER = "iat_prostate_site-1_20261126_segmentation"


def edited(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_what_is_served_of_every_line_is_shown_or_what_is_named(two_sites: Path) -> None:
    assert [each.name for each in choose(two_sites).models] == list(SERVED)
    assert [each.name for each in choose(two_sites, [OLDER, SERVED[1], OLDER]).models] == [OLDER, SERVED[1]]


def test_every_export_is_as_it_was_exported(two_sites: Path) -> None:
    bundles = list(bundles_in(two_sites))
    assert len(bundles) == 5
    assert [changed(each) for each in bundles] == [""] * 5


@pytest.mark.parametrize("gone", ["models/model.pt", "configs/inference.json", "models"])
def test_a_part_of_a_bundle_is_refused_with_what_is_missing_and_the_way_back(exported: Path, gone: str) -> None:
    path = exported / SERVED[0] / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    missing = "models/model.pt" if gone == "models" else gone
    with pytest.raises(
        NotServedError, match=rf"only a part of it is there, {missing} not; `sitelora models .* --serve"
    ):
        choose(exported)
    assert [each.name for each in choose(exported, [SERVED[1]]).models] == [SERVED[1]]


@pytest.mark.parametrize("content", [None, "{", '{"sitelora": '])
def test_a_bundle_that_cannot_say_whose_it_is_is_refused_and_not_passed_over(
    exported: Path, content: str | None
) -> None:
    file = exported / SERVED[0] / "configs" / "metadata.json"
    file.unlink() if content is None else file.write_text(content)
    for names in ([], [SERVED[0]]):
        with pytest.raises(NotServedError, match=f"{SERVED[0]}: .*metadata.json.*export it again"):
            choose(exported, names)


def test_a_model_cut_short_is_refused(exported: Path) -> None:
    file = exported / SERVED[1] / "models" / "model.pt"
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(NotServedError, match=f"nothing was started: .*{SERVED[1]}.*no model that can be opened"):
        choose(exported)


def test_a_bit_that_turned_is_refused(exported: Path) -> None:
    file = exported / SERVED[1] / "models" / "model.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(NotServedError, match="checksum"):
        choose(exported)


def test_another_sites_model_in_its_place_is_refused(exported: Path) -> None:
    shutil.copyfile(exported / SERVED[1] / "models" / "model.pt", exported / SERVED[0] / "models" / "model.pt")
    with pytest.raises(NotServedError, match=r"models/model.pt is not the one that was exported"):
        choose(exported)


def test_a_config_that_was_edited_is_refused(exported: Path) -> None:
    edited(exported / SERVED[0] / "configs" / "inference.json", lambda content: content.update(amp=True))
    with pytest.raises(NotServedError, match=r"configs/inference.json is not the one that was exported"):
        choose(exported)


def test_a_model_of_another_size_is_refused_with_both_sizes(exported: Path) -> None:
    file = exported / SERVED[0] / "models" / "model.pt"
    content = torch.load(file, weights_only=True)
    content["made"]["image_size"] = 64
    torch.save(content, file)
    with pytest.raises(NotServedError, match=r"made with image_size=64 where configs/inference.json says 32"):
        choose(exported)


def test_half_of_the_tensors_are_refused_even_where_every_hash_is_right(exported: Path) -> None:
    file = exported / SERVED[0] / "models" / "model.pt"
    content = torch.load(file, weights_only=True)
    content["model"] = {name: value for name, value in content["model"].items() if "decoder" in name}
    torch.save(content, file)
    edited(
        exported / SERVED[0] / "configs" / "metadata.json",
        lambda told: told["sitelora"].update(model_sha256=file_sha256(file)),
    )
    with pytest.raises(NotServedError, match=r"does not fit the network: .* is missing"):
        choose(exported)


def test_all_that_is_wrong_is_told_at_once(exported: Path) -> None:
    for name in SERVED:
        (exported / name / "models" / "model.pt").unlink()
    with pytest.raises(NotServedError, match=rf"{SERVED[0]}: only a part.*; and .*{SERVED[1]}: only a part"):
        choose(exported)


def test_a_diagnosis_is_passed_over_and_said_or_refused_where_it_was_named(exported: Path) -> None:
    for name in (SERVED[1],):
        edited(
            exported / name / "configs" / "metadata.json",
            lambda told: told["sitelora"].update(task="classification"),
        )
    chosen = choose(exported)
    assert [each.name for each in chosen.models] == [SERVED[0]]
    assert f"{SERVED[1]} gives a classification and no mask" in chosen.passed_over[0]
    with pytest.raises(NotServedError, match="gives a classification and no mask"):
        choose(exported, [SERVED[1]])


def test_where_nothing_is_to_be_shown_the_next_step_is_told(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(NotServedError, match=r"is no folder; `sitelora export"):
        choose(tmp_path / "nothing")
    with pytest.raises(NotServedError, match=rf"no model is called 'x' .*; there are: {OLDER}"):
        choose(exported, ["x"])
    for name in SERVED:
        shutil.rmtree(exported / name)
    with pytest.raises(NotServedError, match=rf"no model in .* is served; `sitelora models .*{OLDER}"):
        choose(exported)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotServedError, match="no exported model in"):
        choose(tmp_path / "empty")


@pytest.fixture
def bundle(two_sites: Path, tmp_path: Path) -> Version:
    """A copy of one bundle, for changes that its hashes do not tell."""
    shutil.copytree(two_sites / SERVED[0], tmp_path / "root" / SERVED[0])
    return next(bundles_in(tmp_path / "root"))


def forged(bundle: Version, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a config, and the hash of it that lies beside it."""
    config = bundle.folder / "configs" / "inference.json"
    edited(config, change)
    told = {"inference_sha256": file_sha256(config)}
    edited(bundle.folder / "configs" / "metadata.json", lambda content: content["sitelora"].update(told))


def touches(mark: Path) -> str:
    return f"$False if not __import__('pathlib').Path('{mark}').touch() else 0"


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("network_def#_disabled_", lambda config, code: config["network_def"].update(_disabled_=code)),
        ("network_def#arch", lambda config, code: config["network_def"].update(arch=code)),
        ("network_def#_target_", lambda config, code: config["network_def"].update(_target_="os.system")),
        ("imports", lambda config, code: config["imports"].append(code)),
        ("imports#0", lambda config, code: config["imports"].__setitem__(0, code)),
        ("image_size", lambda config, code: config.update(image_size=code)),
        ("output_dir", lambda config, code: config.update(output_dir=code)),
        ("dataset_dir", lambda config, code: config.update(dataset_dir="$str(data_root() / 'a' / 'b' / '..')")),
        ("inferer#overlap", lambda config, code: config["inferer"].update(overlap=code)),
        ("evaluator#amp", lambda config, code: config["evaluator"].update(amp={"_target_": "os.getcwd"})),
        ("inferer#roi_size", lambda config, code: config["inferer"].update(roi_size="%/etc/passwd")),
        ("more", lambda config, code: config.update(more=1)),
    ],
)
def test_code_of_another_is_refused_and_not_run_although_its_hash_fits(
    bundle: Version, tmp_path: Path, where: str, change: Callable[[dict[str, Any], str], object]
) -> None:
    mark = tmp_path / "ran"
    forged(bundle, lambda config: change(config, touches(mark)))
    assert where in changed(next(bundles_in(bundle.folder.parent)))
    assert not mark.exists()


def test_numbers_of_a_config_are_an_exports_own(bundle: Version) -> None:
    """An older SiteLoRA may have had others; they are values."""
    forged(bundle, lambda config: config["inferer"].update(sw_batch_size=2))
    assert changed(next(bundles_in(bundle.folder.parent))) == ""


@pytest.mark.parametrize("name", ["torch.py", "scripts/__init__.py", "configs/inference.yaml", "models/model.ts"])
def test_what_no_export_writes_is_refused(bundle: Version, name: str) -> None:
    """MONAI Label puts a bundle's folder first on the search path."""
    file = bundle.folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise SystemExit")
    assert f"it holds {name}, which no export does" in changed(bundle)


def test_what_a_desktop_leaves_is_no_reason(bundle: Version) -> None:
    (bundle.folder / ".DS_Store").write_text("x")
    assert changed(bundle) == ""


def test_another_logging_conf_is_refused(bundle: Version) -> None:
    """Python evaluates what it says as a handler's class."""
    (bundle.folder / "configs" / "logging.conf").write_text("[loggers]\nkeys=root\n")
    assert "logging.conf is not that of the installed bundle" in changed(bundle)


@pytest.mark.parametrize("text", ["[]", "7", "[" * 5000])
def test_a_config_that_is_no_object_is_refused(bundle: Version, text: str) -> None:
    (bundle.folder / "configs" / "inference.json").write_text(text)
    assert "export it again" in changed(bundle)
