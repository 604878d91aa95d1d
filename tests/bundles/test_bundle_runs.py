"""The IAT bundle through MONAI's own commands: train, evaluate and segment, from another folder, on tiny volumes."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.transforms import Compose
from PIL import Image

from sitelora.bundle import bundle_path
from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.data.site_folder import SiteFolder
from sitelora.federation.bundle_config import read_bundle
from sitelora.networks.sam import SamSegmenter

BUNDLE = bundle_path("iat_segmentation")
SIDE = 32
TRAINED_AT = "site-1"
OBLIQUE, LPS = "site-4", "site-3"


def monai_run(configs: list[str], cwd: Path, **values: object) -> subprocess.CompletedProcess[str]:
    """`python -m monai.bundle run` in a process of its own, from a folder that is not the bundle."""
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in configs]
    options = {"config_file": files[0] if len(files) == 1 else str(files), "bundle_root": BUNDLE, **values}
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def workflow(*configs: str, kind: str = "inference", **values: object) -> ConfigWorkflow:
    return ConfigWorkflow(
        workflow_type=kind,
        config_file=[str(BUNDLE / "configs" / f"{name}.json") for name in configs],
        logging_file=False,
        **{"bundle_root": str(BUNDLE), "image_size": SIDE, **values},
    )


def start(run: ConfigWorkflow) -> None:
    run.initialize()
    run.run()


def segment(**values: object) -> None:
    start(workflow("inference", **values))


def listing(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    return make_phantom(root, size=TINY, sites=[TRAINED_AT, OBLIQUE, LPS])


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one epoch at one site; the bundle's own folder stays as it was."""
    out, elsewhere = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("elsewhere")
    before = listing(BUNDLE)
    run = monai_run(["train"], elsewhere, dataset_dir=data / TRAINED_AT, output_dir=out, image_size=SIDE, epochs=1)
    assert run.returncode == 0, run.stdout + run.stderr
    assert listing(BUNDLE) == before
    assert list(elsewhere.iterdir()) == []
    return out


@pytest.fixture(scope="module")
def speckled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random values, whose masks are neither empty nor full."""
    network = SamSegmenter(arch="sam_tiny", image_size=SIDE, seed=4, quiet=True)
    path = tmp_path_factory.mktemp("speckled") / "model.pt"
    torch.save({"model": network.state_dict()}, path)
    return path


def test_training_leaves_a_merged_and_an_adapted_checkpoint(trained: Path) -> None:
    merged = torch.load(trained / "model.pt", weights_only=True)["model"]
    adapted = torch.load(trained / "adapted.pt", weights_only=True)
    plain = SamSegmenter(arch="sam_tiny", image_size=SIDE, quiet=True)
    assert merged.keys() == plain.state_dict().keys()
    assert {value.dtype for value in merged.values()} == {torch.float32}
    added = adapted.keys() - merged.keys()
    assert added
    assert all(name.endswith((".A", ".B")) for name in added)


def test_only_adapted_and_trained_tensors_differ_from_the_base(trained: Path) -> None:
    merged = torch.load(trained / "model.pt", weights_only=True)["model"]
    base = SamSegmenter(arch="sam_tiny", image_size=SIDE, base="embedded").state_dict()
    rounded = {name: value.to(torch.bfloat16).float() for name, value in base.items()}  # where the base is stored so
    changed = {n for n in base if not (torch.equal(merged[n], base[n]) or torch.equal(merged[n], rounded[n]))}
    trained_heads = ("output_upscaling", "output_hypernetworks_mlps", "mask_tokens")
    adapted = ("qkv.weight", "q_proj.weight", "v_proj.weight")
    assert changed
    assert [n for n in changed if not n.endswith(adapted) and not any(part in n for part in trained_heads)] == []
    name = "image_encoder.blocks.0.attn.qkv.weight"
    third = len(base[name]) // 3
    keys = slice(third, 2 * third)  # k has no adapter
    assert name in changed
    assert torch.equal(merged[name][keys], base[name][keys]) or torch.equal(merged[name][keys], rounded[name][keys])


def test_segments_from_another_folder(trained: Path, data: Path, tmp_path: Path) -> None:
    before = listing(BUNDLE)
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    run = monai_run(
        ["inference"],
        elsewhere,
        dataset_dir=data / TRAINED_AT,
        ckpt=trained / "model.pt",
        output_dir=out,
        image_size=SIDE,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (case,) = SiteFolder.read(data / TRAINED_AT).cases("test")
    assert [path.name for path in out.iterdir()] == [Path(case["image"]).name.replace(".nii", "_seg.nii")]
    assert listing(BUNDLE) == before
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("site", [TRAINED_AT, OBLIQUE, LPS])
def test_label_map_lies_on_the_images_grid(site: str, speckled: Path, data: Path, tmp_path: Path) -> None:
    segment(dataset_dir=str(data / site), ckpt=str(speckled), output_dir=str(tmp_path))
    for case in SiteFolder.read(data / site).cases("test"):
        image = nibabel.load(case["image"])
        mask = nibabel.load(tmp_path / Path(case["image"]).name.replace(".nii", "_seg.nii"))
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        assert mask.get_data_dtype() == np.uint8
        assert set(np.unique(np.asanyarray(mask.dataobj))) == {0, 1}


def test_the_sites_of_these_tests_are_oblique_and_flipped(data: Path) -> None:
    axes = {}
    for site in (OBLIQUE, LPS):
        affine = nibabel.load(SiteFolder.read(data / site).cases("test")[0]["image"]).affine
        axes[site] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    assert np.abs(axes[OBLIQUE]).max(axis=0).min() < 0.99
    assert "".join(nibabel.aff2axcodes(nibabel.affines.from_matvec(axes[LPS]))) == "LPS"


def test_mask_follows_the_image_through_orientation(speckled: Path, data: Path, tmp_path: Path) -> None:
    """The same volume stored with other array axes gives the same mask in the patient."""
    (case,) = SiteFolder.read(data / TRAINED_AT).cases("test")
    image = nibabel.load(case["image"])
    flipped = nibabel.as_closest_canonical(image).slicer[::-1, ::-1, :]
    nibabel.save(flipped, tmp_path / "flipped.nii.gz")
    images = [case["image"], str(tmp_path / "flipped.nii.gz")]
    segment(datalist=images, ckpt=str(speckled), output_dir=str(tmp_path))
    one = nibabel.load(tmp_path / Path(case["image"]).name.replace(".nii", "_seg.nii"))
    two = nibabel.load(tmp_path / "flipped_seg.nii.gz")
    one, two = (np.asanyarray(nibabel.as_closest_canonical(mask).dataobj) for mask in (one, two))
    assert 0.1 < one.mean() < 0.9
    assert not np.array_equal(one, one[::-1])
    np.testing.assert_array_equal(one, two)


def test_evaluates_the_merged_checkpoint_on_the_test_split(trained: Path, data: Path, tmp_path: Path) -> None:
    run = workflow(
        "train",
        "evaluate",
        kind="train",
        dataset_dir=str(data / TRAINED_AT),
        ckpt=str(trained / "model.pt"),
        output_dir=str(tmp_path),
    )
    start(run)
    with (tmp_path / "val_mean_dice_raw.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    tested = [case["image"] for case in SiteFolder.read(data / TRAINED_AT).cases("test")]
    assert [row["filename"] for row in rows] == tested
    told = dict(csv.reader((tmp_path / "metrics.csv").open()))
    assert float(told["val_mean_dice"]) == pytest.approx(np.mean([float(row["mean"]) for row in rows]))


@pytest.mark.parametrize("configs", [("inference",), ("train", "evaluate")])
def test_a_missing_checkpoint_is_said_and_never_replaced(configs: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = workflow(
        *configs,
        kind="train" if "train" in configs else "inference",
        dataset_dir=str(data / TRAINED_AT),
        ckpt=str(tmp_path / "no.pt"),
        output_dir=str(out),
    )
    with pytest.raises((RuntimeError, SystemExit)) as caught:
        start(run)
    causes, error = [], caught.value
    while error is not None:
        causes.append(error)
        error = error.__cause__
    (missing,) = [each for each in causes if isinstance(each, FileNotFoundError)]
    assert "no.pt" in str(missing)
    assert "--ckpt" in str(missing)
    assert not list(out.glob("*"))


def test_an_adapted_checkpoint_is_refused_where_a_merged_one_is_served(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    run = workflow(
        "inference",
        dataset_dir=str(data / TRAINED_AT),
        ckpt=str(trained / "adapted.pt"),
        output_dir=str(tmp_path),
    )
    with pytest.raises(SystemExit, match="lora"):
        run.initialize()


def test_pictures_keep_their_shape(speckled: Path, tmp_path: Path) -> None:
    pixels = np.zeros((40, 56), np.uint8)
    pixels[:20, :28] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    segment(
        datalist=[str(tmp_path / "wide.png")],
        ckpt=str(speckled),
        output_dir=str(tmp_path / "out"),
        pictures=True,
    )
    mask = np.asarray(Image.open(tmp_path / "out" / "wide_seg.png"))
    assert (mask.shape, mask.dtype) == ((40, 56), np.uint8)


@pytest.mark.parametrize("config", ["train", "inference"])
def test_the_network_sees_slices_and_pictures_upright(config: str, tmp_path: Path) -> None:
    """As SAM saw its pictures: a base that knows up from down would otherwise have to learn it again."""
    pixels = np.zeros((40, 40), np.uint8)
    pixels[:10] = 200  # above
    pixels[:, 30:] += 50  # to the right
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    body = np.zeros((30, 30, 4), np.float32)
    body[:, 22:] = 200  # the second axis runs to the front
    body[22:] += 50  # the first runs to the patient's left
    nibabel.save(nibabel.Nifti1Image(body, np.diag([-1.0, 1, 1, 1])), tmp_path / "volume.nii.gz")
    Image.fromarray(pixels * 0).save(tmp_path / "mask-picture.png")
    nibabel.save(nibabel.Nifti1Image(body * 0, np.diag([-1.0, 1, 1, 1])), tmp_path / "mask-volume.nii.gz")
    for name, pictures in (("picture.png", True), ("volume.nii.gz", False)):
        parser = read_bundle(BUNDLE.name, {"pictures": pictures, "image_size": 32, "slices": 1}, config=config)
        key = "train#deterministic_transforms" if config == "train" else "preprocessing#transforms"
        sample = {"image": str(tmp_path / name), "label": str(tmp_path / f"mask-{name}")}
        seen = Compose(parser.get_parsed_content(key))(sample)["image"][0]
        seen = seen if pictures else seen[..., 0]
        above, below, right, left = seen[:4].mean(), seen[-4:].mean(), seen[16:, -4:].mean(), seen[16:, :4].mean()
        assert above > below, name
        assert right > left, name


def test_alone_too_fixed_views_are_kept_and_a_cache_without_them_is_refused(data: Path, tmp_path: Path) -> None:
    values = {"dataset_dir": str(data / TRAINED_AT), "output_dir": str(tmp_path), "epochs": 2, "precision": "fp32"}
    losses = []
    for keep in (False, True):
        run = workflow("train", kind="train", **values, views=2, prefix_cache=keep)
        start(run)
        trainer = run.parser.get_parsed_content("train#trainer")
        losses.append(float(trainer.state.output[0]["loss"]))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    with pytest.raises(RuntimeError) as refused:
        start(workflow("train", kind="train", **values, prefix_cache=True))
    assert "found prefix_cache true and views 0" in str(refused.getrepr())
