"""The example in NVFlare's real simulator: stock FedAvg ends with the tensors that the aggregators give in a loop."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

from sitelora.flare.aggregators import LoRASVDAggregator, SGCAAggregator

ROUNDS = 3


def in_a_loop(example: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The same federation without NVFlare."""
    monkeypatch.syspath_prepend(str(example))
    toy = importlib.import_module("toy")
    aggregator = LoRASVDAggregator() if name == "lora_svd" else SGCAAggregator(temperature=0.5)
    model = {key: value.clone() for key, value in toy.ToyLoRA().state_dict().items()}
    for number in range(ROUNDS):
        aggregator.reset_stats()
        for site, cases in toy.CASES.items():
            network = toy.ToyLoRA()
            network.load_state_dict(model)
            toy.train(network, site)
            values = {key: value.detach() for key, value in network.state_dict().items()}
            kind = ParamsType.FULL
            if name == "sgca":
                values, kind = {key: value - model[key] for key, value in values.items()}, ParamsType.DIFF
            meta = {"client_name": site, "NUM_STEPS_CURRENT_ROUND": cases}
            aggregator.accept_model(FLModel(params=values, params_type=kind, meta=meta, current_round=number))
        found = aggregator.aggregate_model().params
        model = found if name == "lora_svd" else {key: model[key] + value for key, value in found.items()}
    return model


@pytest.mark.soak
@pytest.mark.parametrize("name", ["lora_svd", "sgca"])
def test_the_example_runs_in_nvflares_simulator_and_ends_where_the_loop_ends(
    name: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = repository / "examples" / "stock_fedavg"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    workspace = tmp_path / "workspace"
    arguments = ["--aggregator", name, "--rounds", str(ROUNDS), "--workspace", str(workspace)]
    run = subprocess.run(
        [sys.executable, str(example / "job.py"), *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (line,) = re.findall(rf"^toy_{name}: error (\S+) before, (\S+) after", run.stdout, re.MULTILINE)
    assert float(line[0]) == pytest.approx(1.0)
    assert float(line[1]) < 0.6
    (path,) = workspace.rglob("FL_global_model.pt")
    model = torch.load(path, weights_only=True)["model"]
    expected = in_a_loop(example, name, monkeypatch)
    assert model.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(torch.as_tensor(model[key]), value, atol=1e-5, rtol=1e-4)


def test_the_examples_network_sends_its_adapter_and_bias_only(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "examples" / "stock_fedavg"))
    toy = importlib.import_module("toy")
    assert set(toy.ToyLoRA().state_dict()) == {"layer.A", "layer.B", "bias"}
    assert toy.error(toy.ToyLoRA()) == pytest.approx(1.0)


def test_the_examples_need_nothing_of_sitelora_but_the_component_they_show(repository: Path) -> None:
    for path in sorted((repository / "examples" / "stock_fedavg").glob("*.py")):
        used = set(re.findall(r"^\s*(?:from|import) (sitelora\S*)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert used <= {"sitelora.flare.aggregators", "sitelora.flare.dual_lora_filter"}, path


@pytest.mark.soak
def test_the_dual_example_learns_together_and_the_server_never_sees_a_local_pair(
    repository: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(repository / "examples" / "stock_fedavg" / "dual_job.py"), "--rounds", str(ROUNDS)]
    run = subprocess.run(
        [*command, "--workspace", str(tmp_path / "workspace")],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    found = re.search(
        r"^toy_dual: error (\S+) before, (\S+) after 3 rounds; the server never saw", run.stdout, re.MULTILINE
    )
    assert found is not None, run.stdout
    assert float(found[2]) < 0.7
    assert run.stdout.count("2 tensors leave, 2 stay") + run.stderr.count("2 tensors leave, 2 stay") == 2 * ROUNDS
