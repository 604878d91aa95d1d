"""A linear probe: a head on features that are computed once, chosen by validation, scored by the task's own rules."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.linear_probe import DECAYS, WITHOUT_VALIDATION, LinearProbe, trained_head
from sitelora.settings import read_settings
from tried import SITES, tried

BUNDLE = "fedopal_classification"


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SiteFolder:
    root = tmp_path_factory.mktemp("data")
    tried(BUNDLE).write(root)
    return SiteFolder.read(root / tried(BUNDLE).dataset / SITES[0])


@pytest.fixture(scope="module")
def probe() -> LinearProbe:
    return LinearProbe(read_settings(BUNDLE, tried(BUNDLE).values))


def test_a_head_is_where_the_gradient_of_loss_and_decay_is_zero() -> None:
    features, truth = gaussian(40, 5), [number % 3 for number in range(40)]
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    head = trained_head(features, truth, weights, 0.01)
    weight, bias = (part.requires_grad_() for part in head)
    loss = functional.cross_entropy(features @ weight + bias, torch.tensor(truth), weight=weights)
    (loss + 0.01 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(float(weight.grad.abs().max()), float(bias.grad.abs().max())) < 1e-4


def test_more_decay_is_a_smaller_head_and_classes_that_differ_are_told_apart() -> None:
    truth = [number % 2 for number in range(30)]
    features = gaussian(30, 4) + 3 * torch.tensor(truth, dtype=torch.float64)[:, None]
    weights = torch.ones(2, dtype=torch.float64)
    sizes = []
    for decay in DECAYS:
        weight, bias = trained_head(features, truth, weights, decay)
        assert (features @ weight + bias).argmax(1).tolist() == truth
        sizes.append(float(weight.norm()))
    assert sizes == sorted(sizes, reverse=True)


def test_a_probe_scores_every_case_and_has_the_choice_from_validation(probe: LinearProbe, folder: SiteFolder) -> None:
    found = probe.of(folder)
    assert found.decay in DECAYS
    for split, scores in (("validation", found.validation), ("test", found.test)):
        assert scores is not None
        assert {case["case"] for case in scores["cases"]} == {
            folder.case_names[case["image"]] for case in folder.cases(split)
        }
        assert 0 <= scores["score"] <= 1
        assert {"auc", "sensitivity", "specificity"} <= scores["set_scores"].keys()
    again = probe.of(folder)
    assert again == found


def test_test_cases_have_no_say(probe: LinearProbe, folder: SiteFolder) -> None:
    swapped = {split: folder.splits[split] for split in ("training", "validation")}
    others = tuple({**case, "class": 1 - case["class"]} for case in folder.splits["test"])
    other = SiteFolder(
        path=folder.path, name=folder.name, hospital="", labels=folder.labels, splits={**swapped, "test": others}
    )
    one, two = probe.of(folder), probe.of(other)
    assert one.decay == two.decay
    assert one.validation == two.validation


def test_without_validation_the_middle_decay_is_taken_and_nothing_is_fitted(
    probe: LinearProbe, folder: SiteFolder
) -> None:
    alone = SiteFolder(
        path=folder.path,
        name=folder.name,
        hospital="",
        labels=folder.labels,
        splits={"training": folder.splits["training"]},
    )
    found = probe.of(alone)
    assert (found.decay, found.validation, found.test) == (WITHOUT_VALIDATION, None, None)


def test_the_frozen_base_is_all_that_is_run(probe: LinearProbe, folder: SiteFolder) -> None:
    network: Any = probe._network
    assert isinstance(network, nn.Module)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    probe.of(folder)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


def test_segmentation_has_no_probe() -> None:
    with pytest.raises(ValueError, match="the network of iat_segmentation has no features"):
        LinearProbe(read_settings("iat_segmentation", {"base": None, "image_size": 32}))


def test_the_probes_path_is_the_data_of_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sitelora.cli import main
    from sitelora.federation.job import Job
    from sitelora.federation.job_folder import JobFolder

    on = tried(BUNDLE)
    on.write(tmp_path / "data")
    job = Job(
        federation="probe",
        bundle=BUNDLE,
        dataset=on.dataset,
        sites=SITES,
        rounds=1,
        min_sites=2,
        settings={key: value for key, value in on.values.items() if key != "base"},
    )
    JobFolder.write(job, tmp_path / "job", marker=False)
    assert main(["probe", str(tmp_path / "job"), "--data", str(tmp_path / "data"), "--set", "base=null"]) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title == "Balanced accuracy of a linear probe on the frozen base"
    assert head.split() == ["site", "decay", "validation", "test", "95", "%"]
    assert [row.split()[0] for row in rows] == list(SITES)


def test_what_a_check_lets_pass_is_probed(probe: LinearProbe, folder: SiteFolder, tmp_path: Path) -> None:
    """A picture in colours among grey ones outside of training, and no validation case of the one class trained."""
    shutil.copytree(folder.path, tmp_path / folder.name)
    site = SiteFolder.read(tmp_path / folder.name)
    with Image.open(site.cases("test")[0]["image"]) as grey:
        grey.convert("RGB").save(site.cases("test")[0]["image"])
    splits = dict(site.splits)
    for split, value in (("training", 0), ("validation", 1)):
        splits[split] = tuple(case for case in splits[split] if case["class"] == value)
    found = probe.of(replace(site, splits=splits))
    assert found.decay == WITHOUT_VALIDATION
    assert found.test is not None
    assert found.test["case_count"] == len(splits["test"])
