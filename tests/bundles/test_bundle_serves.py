"""Segmentation's bundles in this process: they train, and what a federation scores is what `inference.json` serves."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from torch import nn

from sitelora.bundle import bundle_names, bundle_path
from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.data.site_folder import SiteFolder
from sitelora.federation.build_network import save_merged, trained_parameters
from sitelora.federation.bundle_config import FEDERATED, read_bundle
from sitelora.federation.site_scores import SiteScores
from sitelora.method import Model
from sitelora.settings import read_settings
from tried import bundles_of

BUNDLES = bundles_of("segmentation")
SIDE = 32
KEEPS_ITS_ADAPTERS = "fedsca_segmentation"
PROCESS_OF_ITS_OWN = "iat_segmentation"  # test_bundle_runs.py trains this one through MONAI's command line


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data"), size=TINY, sites=["site-1"]) / "site-1"


def workflow(bundle: str, *configs: str, kind: str = "inference", **values: Any) -> ConfigWorkflow:
    root = bundle_path(bundle)
    return ConfigWorkflow(
        workflow_type=kind,
        config_file=[str(root / "configs" / f"{name}.json") for name in configs],
        logging_file=False,
        **{"bundle_root": str(root), "image_size": SIDE, **values},
    )


def start(run: ConfigWorkflow) -> None:
    run.initialize()
    run.run()


def trained_like(bundle: str, site: Path, precision: str) -> nn.Module:
    """The network that the bundle trains, each trained tensor moved away from where it began."""
    values, ours = {"image_size": SIDE, "precision": precision}, {**FEDERATED, "dataset_dir": str(site)}
    network = read_bundle(bundle, values, ours=ours).get_parsed_content("network")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trained_parameters(network).values():
            parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
    return network


def served(bundle: str, site: Path, checkpoint: Path, out: Path, **values: Any) -> dict[str, np.ndarray]:
    start(workflow(bundle, "inference", dataset_dir=str(site), ckpt=str(checkpoint), output_dir=str(out), **values))
    return {path.name.removesuffix("_seg.nii.gz"): np.asanyarray(nibabel.load(path).dataobj) for path in out.iterdir()}


def scored(bundle: str, site: Path, network: nn.Module, precision: str, kept: Path) -> dict[str, np.ndarray]:
    """The masks that a site scores in a federation."""
    run, folder = read_settings(bundle, {"image_size": SIDE, "precision": precision}), SiteFolder.read(site)
    values = {name: tensor.detach().clone() for name, tensor in trained_parameters(network).items()}
    SiteScores(network, folder, run).test(Model(values=values), folder, keep_predictions=kept)
    return {path.name.removesuffix(".nii.gz"): np.asanyarray(nibabel.load(path).dataobj) for path in kept.iterdir()}


@pytest.mark.usefixtures("bf16_anywhere")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("bundle", BUNDLES)
def test_what_is_scored_is_what_is_served(bundle: str, precision: str, site: Path, tmp_path: Path) -> None:
    """To the voxel, whatever the run computed in: the network of the bundle's inference is scored, adapters merged."""
    network = trained_like(bundle, site, precision)
    checkpoint = save_merged(network, tmp_path / "personal.pt")
    expected = scored(bundle, site, network, precision, tmp_path / "kept")
    exact = {"precision": precision} if bundle == KEEPS_ITS_ADAPTERS else {}
    found = served(bundle, site, checkpoint, tmp_path / "out", **exact)
    assert found.keys() == expected.keys()
    for case, labels in expected.items():
        assert 0.02 < labels.mean() < 0.98, "the test needs masks that are neither empty nor full"
        np.testing.assert_array_equal(found[case], labels)


def test_fedscas_checkpoint_holds_every_adapter_and_opens_strictly_here_and_nowhere_else(
    site: Path, tmp_path: Path
) -> None:
    network = trained_like(KEEPS_ITS_ADAPTERS, site, "fp32")
    checkpoint = save_merged(network, tmp_path / "personal.pt")
    saved = torch.load(checkpoint, weights_only=True)["model"]
    hosts = {name.partition(".adapter.")[0] for name in saved if ".adapter." in name}
    assert hosts == {f"image_encoder.blocks.{block}.{part}" for block in range(6) for part in ("attn", "mlp")}
    assert {value.dtype for value in saved.values()} == {torch.float32}

    here = read_bundle(KEEPS_ITS_ADAPTERS, {"image_size": SIDE, "precision": "fp32"}, config="inference")
    opened = here.get_parsed_content("network_def")
    opened.load_state_dict(saved, strict=True)
    image = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(opened.eval()(image), network.eval()(image))

    elsewhere = workflow(
        "iat_segmentation", "inference", dataset_dir=str(site), ckpt=str(checkpoint), output_dir=str(tmp_path / "out")
    )
    with pytest.raises(SystemExit, match="adapter"):
        elsewhere.initialize()


def test_fedsca_refuses_a_checkpoint_without_its_adapters(site: Path, tmp_path: Path) -> None:
    network = trained_like("iat_segmentation", site, "fp32")
    checkpoint = save_merged(network, tmp_path / "plain.pt")
    run = workflow(
        KEEPS_ITS_ADAPTERS, "inference", dataset_dir=str(site), ckpt=str(checkpoint), output_dir=str(tmp_path)
    )
    with pytest.raises(SystemExit, match=r"adapter\.down\.\w+ is missing"):
        run.initialize()


@pytest.mark.parametrize("bundle", [name for name in BUNDLES if name != PROCESS_OF_ITS_OWN])
def test_trains_alone_evaluates_and_segments(bundle: str, site: Path, tmp_path: Path) -> None:
    out = tmp_path / "trained"
    start(workflow(bundle, "train", kind="train", dataset_dir=str(site), output_dir=str(out), epochs=1))
    checkpoint = out / "model.pt"
    saved = torch.load(checkpoint, weights_only=True)["model"]
    plain = read_bundle(bundle, {"image_size": SIDE}, config="inference").get_parsed_content("network_def")
    assert saved.keys() == plain.state_dict().keys()

    report = tmp_path / "evaluated"
    values = {"dataset_dir": str(site), "ckpt": str(checkpoint)}
    start(workflow(bundle, "train", "evaluate", kind="train", output_dir=str(report), **values))
    cases = SiteFolder.read(site).cases("test")
    with (report / "val_mean_dice_raw.csv").open() as stream:
        assert [row["filename"] for row in csv.DictReader(stream)] == [case["image"] for case in cases]
    assert len(served(bundle, site, checkpoint, tmp_path / "segmented")) == len(cases)


def test_every_bundle_with_a_base_starts_as_the_same(site: Path) -> None:
    image = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    seen = {}
    for bundle in (name for name in BUNDLES if name != "unet_segmentation"):  # which has no base
        values, ours = {"image_size": SIDE, "precision": "fp32"}, {**FEDERATED, "dataset_dir": str(site)}
        network = read_bundle(bundle, values, ours=ours).get_parsed_content("network").eval()
        with torch.no_grad():
            seen[bundle] = network(image)
    for bundle, logits in seen.items():
        torch.testing.assert_close(logits, seen[PROCESS_OF_ITS_OWN], msg=bundle)


def test_every_metadata_tells_its_own_story() -> None:
    told = [
        json.loads((bundle_path(name) / "configs" / "metadata.json").read_text(encoding="utf-8"))
        for name in bundle_names()
    ]
    for key in ("name", "task", "description"):
        assert len({content[key] for content in told}) == len(told), key
