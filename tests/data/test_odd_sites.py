"""Odd and broken site folders, drawn from a number: what passes the check never fails later, the rest never begins.

Later is: a federation begins, makes a training step, scores its models, and its personal model serves every image of
the site. Twenty of three hundred folders with masks run always, and ten of three hundred with classes; all of them
with `make soak`.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from sitelora.bundle import bundle_path
from sitelora.data.check import check_site_folder, format_check
from sitelora.data.site_folder import SPLITS, SiteDataError, SiteFolder
from sitelora.federation.bundle_config import data_needs, read_bundle
from sitelora.federation.in_process import run_in_process
from sitelora.run_result import RunResult
from sitelora.serving.bundle_parts import MaskNames, judge_images
from sitelora.serving.case_files import TABLE

sys.path.insert(0, str(Path(__file__).with_name("odd")))
from drawing import CLASS_KINDS, KINDS, draw_site

from tried import bundles_of

NUMBERS = 300
ALWAYS = range(0, NUMBERS, NUMBERS // 20)
CLASSED_ALWAYS = range(3, NUMBERS, NUMBERS // 10)
FAST = {"image_size": 32, "base": None, "slices": 3, "epochs": 1, "steps_per_epoch": 1, "precision": "fp32"}


def run(root: Path, bundle: str, values: dict[str, object]) -> RunResult:
    return run_in_process(
        bundle=bundle,
        dataset="odd",
        sites=("site-1",),
        rounds=1,
        data=root,
        home_folder=root / "home",
        overrides=values,
    )


def one(root: Path, number: int, *, classed: bool = False) -> None:
    site = root / "odd" / "site-1"
    name, passes, values = draw_site(site, number, classed=classed)
    bundles = bundles_of("classification" if classed else "segmentation")
    if classed:  # those for what the folder holds
        bundles = [one for one in bundles if read_bundle(one)["pictures"] == values["pictures"]]
        values.pop("pictures")
    bundle = bundles[int(np.random.default_rng(number).integers(len(bundles)))]
    values = {**FAST, **values}
    needs = data_needs(bundle, read_bundle(bundle, values))
    result = check_site_folder(site, needs=needs)
    said = f"{number}: {bundle}, {name}\n{format_check(result)}"
    if passes is not None:
        assert (not result.errors) == passes, said
    if result.errors:
        with pytest.raises(SiteDataError):
            run(root, bundle, values)
        images = [str(path) for path in (site / "images").rglob("*")]
        judge_images(images, pictures=needs.pictures, names=MaskNames(), channels=needs.channels)  # never raises
        return
    try:
        outcome = run(root, bundle, values)
    except Exception as error:
        pytest.fail(f"passed the check and failed with {type(error).__name__}: {error}\n{said}")
    assert outcome.completed, said
    serve_all(root, site, bundle, said)


def serve_all(root: Path, site: Path, bundle: str, said: str) -> None:
    """Serve every image of a site by its personal model, with nothing but the model's path."""
    (model,) = (root / "home").rglob("personal.pt")
    folder, out = SiteFolder.read(site), root / "masks"
    images = [str(case["image"]) for split in SPLITS for case in folder.cases(split)]
    run = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(bundle_path(bundle) / "configs" / "inference.json"),
        logging_file=False,
        bundle_root=str(bundle_path(bundle)),
        ckpt=str(model),
        output_dir=str(out),
        datalist=images,
    )
    try:
        run.initialize()
        run.run()
    except (Exception, SystemExit) as error:
        pytest.fail(f"passed the check and is not served: {type(error).__name__}: {error}\n{said}")
    left = [path for path in out.iterdir() if path.name != TABLE]
    assert len(left) == len(images), said


@pytest.mark.parametrize("number", ALWAYS)
def test_what_passes_the_check_trains_and_is_scored(number: int, tmp_path: Path) -> None:
    one(tmp_path, number)


@pytest.mark.soak
@pytest.mark.parametrize("number", [number for number in range(NUMBERS) if number not in ALWAYS])
def test_what_passes_the_check_trains_and_is_scored_for_all(number: int, tmp_path: Path) -> None:
    one(tmp_path, number)


@pytest.mark.parametrize("number", CLASSED_ALWAYS)
def test_what_passes_the_check_is_classified(number: int, tmp_path: Path) -> None:
    one(tmp_path, number, classed=True)


@pytest.mark.soak
@pytest.mark.parametrize("number", [number for number in range(NUMBERS) if number not in CLASSED_ALWAYS])
def test_what_passes_the_check_is_classified_for_all(number: int, tmp_path: Path) -> None:
    one(tmp_path, number, classed=True)


def test_every_kind_of_change_is_drawn_at_least_once() -> None:
    assert KINDS <= CLASS_KINDS <= NUMBERS
