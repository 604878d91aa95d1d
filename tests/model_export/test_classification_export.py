"""A diagnosis takes the same way: exported, checked, and predicted as MONAI's own command does it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from sitelora.federation.in_process import run_in_process
from sitelora.model_export.export import Exported, export_model
from sitelora.model_export.model_of_run import ModelOfRun
from sitelora.serving.many_images import Case, predict_many
from sitelora.serving.outputs import Wanted
from sitelora.serving.predict import NoMaskError
from tried import SITES, tried

BUNDLE = "fedopal_classification"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the data, the run and the export of a small federation are."""
    root, on = tmp_path_factory.mktemp("diagnosis"), tried(BUNDLE)
    on.write(root / "data")
    run_in_process(
        bundle=BUNDLE,
        dataset=on.dataset,
        federation="shapes",
        sites=SITES,
        rounds=1,
        overrides=dict(on.values),
        data=root / "data",
        home_folder=root / "home",
        uid="20261126-101010-aa",
    )
    return root


@pytest.fixture(scope="module")
def exported(root: Path) -> Exported:
    run = root / "home" / "shapes" / "20261126-101010-aa"
    return export_model(ModelOfRun.find(run, SITES[0]), root / "exported")


@pytest.fixture(scope="module")
def images(root: Path) -> list[Path]:
    """Two pictures of one name."""
    found = sorted((root / "data").glob(f"*/{SITES[0]}/images/*"))[:2]
    for number, image in enumerate(found):
        place = root / f"p{number}" / f"scan{image.suffix}"
        place.parent.mkdir()
        shutil.copyfile(image, place)
    return sorted(root.glob("p?/scan.*"))


def predicted(model: Path, images: list[Path], out: Path, **how: Wanted) -> list[Case]:
    return list(predict_many(model, images, out=out, wanted=how.get("wanted", Wanted()), device="cpu"))


def test_the_bundle_tells_its_classes_and_its_score(exported: Exported) -> None:
    assert exported.folder.name == f"shapes_{SITES[0]}_20261126_classification"
    told = json.loads((exported.folder / "configs" / "metadata.json").read_text())
    names = {"0": "disc", "1": "square"}
    assert told["network_data_format"]["outputs"]["pred"]["channel_def"] == names
    assert 0 <= told["eval_metrics"]["mean_balanced_accuracy"] <= 1
    config = json.loads((exported.folder / "configs" / "inference.json").read_text())
    assert config["made"]["labels"] == names
    assert config["made"].keys() == {"labels", "decision"}


def test_an_answer_a_case_and_a_table_of_all_as_monais_command_gives_them(
    exported: Exported, images: list[Path], tmp_path: Path
) -> None:
    cases = predicted(exported.folder, images, tmp_path / "out")
    assert [case.refused for case in cases] == ["", ""]
    run = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(exported.folder / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(exported.folder),
        datalist=[str(image) for image in images],
        output_dir=str(tmp_path / "monai"),
        device="$torch.device('cpu')",
    )
    run.initialize()
    run.run()
    for name in ("p0_scan.json", "p1_scan.json", "predictions.csv"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "monai" / name).read_text()


def test_the_table_grows_with_every_call_and_no_answer_is_written_over(
    exported: Exported, images: list[Path], tmp_path: Path
) -> None:
    predicted(exported.folder, images[:1], tmp_path)
    (again,) = predicted(exported.folder, images[1:], tmp_path)
    assert "scan.json is there already" in again.refused
    other = shutil.copyfile(images[1], tmp_path / f"other{images[1].suffix}")
    predicted(exported.folder, [other], tmp_path)
    with (tmp_path / "predictions.csv").open() as stream:
        assert [row["case"] for row in csv.DictReader(stream)] == ["scan", "other"]


def test_what_only_a_mask_has_is_refused_before_an_image_is_touched(
    exported: Exported, images: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(NoMaskError, match="gives no mask"):
        predicted(exported.folder, images, tmp_path, wanted=Wanted(largest_component=True))
    assert list(tmp_path.iterdir()) == []
