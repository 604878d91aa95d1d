"""What every file in ``methods/`` must hold; a method receives these tests by being in the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sitelora.adapters.base import adapter_tensor_names
from sitelora.data.phantom import TINY, make_phantom
from sitelora.federation.adapted import adapted_network, trained_parameters
from sitelora.federation.bundle_config import load_method
from sitelora.federation.in_process import run_in_process
from sitelora.federation.site import Site, SiteSettings
from sitelora.methods import find_method, method_names
from sitelora.networks.sam import SamSegmenter
from sitelora.server.lowrank import pair_prefixes
from sitelora.server.types import ANY_SITE, Message, Update

BUNDLE = "iat_segmentation"
SITES = ("site-1", "site-2")
FAST = {"image_size": 32, "base": None, "crops_per_volume": 1, "precision": "fp32", "method": {}}


def overrides(name: str) -> dict[str, Any]:
    return {**FAST, "method": {"_target_": f"sitelora.methods.{name}.{name}"}}


def network() -> SamSegmenter:
    return SamSegmenter(arch="sam_tiny", image_size=32, base=None, quiet=True, precision="fp32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_phantom(root, size=TINY, sites=SITES)
    return root


@pytest.fixture(scope="module", params=method_names())
def run(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two uninterrupted rounds of one method, with site-2 away in the first."""
    name: str = request.param
    home = tmp_path_factory.mktemp(f"home_{name}")
    result = federate(name, data, home, rounds=2)
    return {"name": name, "home": home, "result": result, "folder": home / "conformance" / "whole"}


def federate(name: str, data: Path, home: Path, *, rounds: int, uid: str = "whole", **options: Any) -> Any:
    return run_in_process(
        bundle=BUNDLE,
        dataset="prostate",
        sites=SITES,
        rounds=rounds,
        federation="conformance",
        overrides=overrides(name),
        data=data,
        home_folder=home,
        uid=uid,
        **options,
        attends=lambda site, round_number: (site, round_number) != ("site-2", 0),
    )


def audit_lines(folder: Path, site: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / site / "audit.jsonl").read_text().splitlines()]


def last_states(result: dict[str, Any]) -> dict[str, str]:
    return {site: entry["state_sha256"] for site, entry in result["rounds"][-1]["sites"].items()}


def test_the_file_and_the_method_have_one_name(run: dict[str, Any]) -> None:
    assert find_method(run["name"])().name == run["name"]


def test_the_partition_is_total_and_disjoint(run: dict[str, Any]) -> None:
    net = network()
    base = set(net.state_dict())
    partition = find_method(run["name"])().adapt(net, seed=0)
    names = [*partition.shared, *partition.local, *partition.frozen]
    assert sorted(names) == sorted(net.state_dict())
    assert base - set(partition.frozen) <= set(partition.trained)
    assert adapter_tensor_names(net) <= {*partition.trained, *partition.frozen}


def test_the_adapted_network_starts_as_the_base(run: dict[str, Any]) -> None:
    picture = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    plain, net = network().eval(), network().eval()
    adapted_network(net, find_method(run["name"])(), seed=3, precision="fp32", device="cpu")
    with torch.no_grad():
        assert torch.equal(plain(picture), net(picture))


def test_all_rounds_ran_and_the_absent_site_is_named(run: dict[str, Any]) -> None:
    result = run["result"]
    assert result["completed"]
    assert result["rounds_done"] == 2
    assert result["rounds"][0]["sites"]["site-2"]["status"] == "missing"
    assert all(entry["status"] == "ok" for entry in result["rounds"][1]["sites"].values())


def test_only_shared_tensors_ever_left(run: dict[str, Any]) -> None:
    method = load_method(BUNDLE, overrides(run["name"]))
    partition = method.adapt(network(), seed=0)
    for site in SITES:
        for line in audit_lines(run["folder"], site):
            name = line["name"]
            if name.startswith("@"):
                companion, _, name = name[1:].partition("/")
                assert companion in method.program.companions
            assert name in partition.shared
            assert name not in partition.local


def test_the_ledger_is_the_audit_log_is_the_shared_values_in_bf16(run: dict[str, Any]) -> None:
    method = load_method(BUNDLE, overrides(run["name"]))
    net = network()
    partition = method.adapt(net, seed=0)
    size = {name: tensor.numel() * 2 for name, tensor in net.state_dict().items()}
    for round_number in range(2):
        sent = method.sent_in(round_number, partition.shared)
        expected = sum(size[name] for name in sent) * (1 + len(method.program.companions))
        for site, entry in run["result"]["rounds"][round_number]["sites"].items():
            logged = [line for line in audit_lines(run["folder"], site) if line["round"] == round_number]
            attended = entry["status"] == "ok"
            assert entry["bytes_up"] == (expected if attended else 0)
            assert sum(line["bytes"] for line in logged) == entry["bytes_up"]


def test_frozen_tensors_do_not_move_and_trained_ones_do(run: dict[str, Any], data: Path, tmp_path: Path) -> None:
    settings = SiteSettings(
        site="site-1",
        federation="frozen",
        uid="u",
        bundle=BUNDLE,
        data=data / "prostate" / "site-1",
        home=tmp_path,
        overrides=overrides(run["name"]),
    )
    site = Site(settings)
    before = {name: tensor.clone() for name, tensor in site.network.state_dict().items()}
    answer = site.begin()
    packet = {name: tensor.bfloat16() for name, tensor in answer.tensors.items()}
    moved: set[str] = set()
    for round_number in range(2):
        site.train(round_number, packet)
        after = site.network.state_dict()
        moved |= {name for name in before if not torch.equal(before[name], after[name])}
    trained = set(trained_parameters(site.network))
    assert moved <= trained
    assert {name for name in trained if name.endswith((".B", "up.weight"))} & moved


def test_interrupted_is_uninterrupted_bit_for_bit(run: dict[str, Any], data: Path, tmp_path: Path) -> None:
    federate(run["name"], data, tmp_path, rounds=1, uid="cut", evaluate=False)
    resumed = federate(run["name"], data, tmp_path, rounds=2, uid="cut", resume=True, evaluate=False)
    assert resumed["fingerprint"] == run["result"]["fingerprint"]
    assert last_states(resumed) == last_states(run["result"])


def test_every_kind_of_model_is_scored_or_says_why_not(run: dict[str, Any]) -> None:
    for evaluation in run["result"]["evaluation"].values():
        assert set(evaluation) == {"base", "personal", "global", "unseen"}
        assert "cases" in evaluation["personal"]
        for kind in ("global", "unseen"):
            assert evaluation[kind].get("not_applicable") or 0 <= evaluation[kind]["dice"] <= 1


def test_identical_updates_are_a_fixed_point(run: dict[str, Any]) -> None:
    """Products are compared, not factors: a refactored pair is another pair with the same product."""
    method = find_method(run["name"])()
    generator = torch.Generator().manual_seed(5)
    net = network()
    partition = method.adapt(net, seed=0)
    values = {name: torch.randn(net.state_dict()[name].shape, generator=generator) for name in partition.shared}
    companions = {f"{c}/{n}": torch.zeros_like(t) for c in method.program.companions for n, t in values.items()}
    update = Update(values=values, received=dict.fromkeys(values, torch.zeros(())), companions=companions, cases=3)
    same = Update(**{**vars(update), "received": {n: torch.zeros_like(t) for n, t in values.items()}})
    messages, _ = method.server({"a": same, "b": same, "c": same}, {}, 0)
    result = messages.get("a", messages[ANY_SITE])
    pairs = set(pair_prefixes(sorted(values)))
    for prefix in pairs:
        before = values[f"{prefix}.B"] @ values[f"{prefix}.A"]
        torch.testing.assert_close(product(result, prefix), before, rtol=1e-4, atol=1e-4)
    for name, tensor in values.items():
        if name[:-2] not in pairs:
            torch.testing.assert_close(result.values[name], tensor)


def product(message: Message, prefix: str) -> torch.Tensor:
    full = message.values[f"{prefix}.B"] @ message.values[f"{prefix}.A"]
    if prefix in message.base_delta:
        left, right = message.base_delta[prefix]
        full = full + left @ right
    return full
