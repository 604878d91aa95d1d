"""`--gpu`: NVFlare's own option, refused before anything starts where it cannot be; and what documents say of GPUs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nvflare.fuel.utils.class_utils import instantiate_class
from nvflare.private.fed.utils.fed_utils import split_gpus

from sitelora.cli import main
from sitelora.federation.job_folder import JobFolder
from sitelora.simulator import simulate as simulate_module
from sitelora.simulator.gpus import require_gpus
from sitelora.simulator.processes import simulator_command
from sitelora.simulator.resolve_run import SimulationError
from sitelora.simulator.simulate import simulate

Jobs = Callable[..., JobFolder]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose torch sees two CUDA devices; what is asked is torch's answer, not a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("text", "groups"), [("0", ["0"]), ("0,1", ["0", "1"]), ("[0,1]", ["0,1"]), ("[0], [1]", ["0", "1"])]
)
def test_what_is_taken_is_what_nvflare_reads(text: str, groups: list[str]) -> None:
    assert split_gpus(require_gpus(text, sites=2)) == groups


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected numbers such as 0"),
        ("all", "expected numbers such as 0"),
        ("0;1", "expected numbers such as 0"),
        ("[0,1", "expected numbers such as 0"),
        ("2", "found 2, expected 0 to 1"),
        ("0,1,0", "3 groups of GPUs for 2 sites"),
    ],
)
def test_what_cannot_be_is_refused(text: str, told: str) -> None:
    with pytest.raises(SimulationError, match=re.escape(told)):
        require_gpus(text, sites=2)


@pytest.mark.usefixtures("no_gpu")
def test_without_cuda_nothing_starts(
    job_of: Jobs, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(tmp_path / "jobs")
    with pytest.raises(SimulationError, match=r"sees no CUDA device here: leave --gpu out"):
        simulate(job.path, home=tmp_path / "home", gpus="0")
    words = ["simulate", str(job.path), "--gpu", "0", "--home", str(tmp_path / "home"), "--data", str(tiny_data)]
    assert main(words) == 2
    assert "sees no CUDA device here" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.usefixtures("two_gpus")
def test_nvflares_command_carries_the_option(
    job_of: Jobs, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(Exception):
        pass

    def started(command: list[str], **_: Any) -> None:
        raise Started(command)

    monkeypatch.setattr(simulate_module, "ProcessFamily", started)
    job = job_of(tmp_path / "jobs")
    for gpus, end in ((None, []), ("0,1", ["-gpu", "0,1"])):
        with pytest.raises(Started) as caught:
            simulate(job.path, home=tmp_path / "home", data=tiny_data, gpus=gpus, progress=False, new=True)
        (command,) = caught.value.args
        assert command[command.index("-t") + 2 :] == end
    paths = {"job": Path("j"), "workspace": Path("w"), "threads": 1}
    assert simulator_command(**paths, gpus="0") == [*simulator_command(**paths), "-gpu", "0"]


def test_no_shipped_job_asks_for_resources(repository: Path) -> None:
    """A job that asked for a GPU would be refused by every site without a GPU resource manager."""
    found = {
        path.parent.name: json.loads(path.read_text())["resource_spec"] for path in repository.glob("jobs/*/meta.json")
    }
    assert found
    assert all(spec == {} for spec in found.values())


def test_the_documented_resource_manager_is_nvflares(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nvflare.app_common.resource_managers import gpu_resource_manager

    page = (repository / "docs" / "gpu.md").read_text(encoding="utf-8")
    (text,) = [block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "components" in block]
    components = {one["id"]: one for one in json.loads(text)["components"]}
    assert set(components) == {"resource_manager", "resource_consumer"}
    args = components["resource_manager"]["args"]
    # what nvidia-smi would say at the site
    monkeypatch.setattr(gpu_resource_manager, "get_host_gpu_ids", lambda: list(range(args["num_of_gpus"])))
    memory = int(args["mem_per_gpu_in_GiB"] * 1024)
    monkeypatch.setattr(gpu_resource_manager, "get_host_gpu_memory_total", lambda: [memory] * args["num_of_gpus"])
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the consumer sets it for good
    for one in components.values():
        made = instantiate_class(one["path"], one["args"])
        assert f"{type(made).__module__}.{type(made).__name__}" == one["path"]


def test_the_documented_settings_are_a_sites_own(repository: Path) -> None:
    from sitelora.settings import read_settings

    page = (repository / "docs" / "gpu.md").read_text(encoding="utf-8")
    (text,) = [block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "settings" in block]
    settings = json.loads(text)["settings"]
    assert settings["device"].startswith("cuda")
    assert read_settings("iat_segmentation", site_values=settings).parser()["device"] == settings["device"]
