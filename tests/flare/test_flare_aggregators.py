"""The aggregators for NVFlare's stock FedAvg: what they compute, what they refuse, and what a job keeps of them."""

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from torch import Tensor

from sitelora.flare.aggregators import LoRASVDAggregator, SGCAAggregator

RANK, OUT, IN = 3, 10, 8
STEPS = {"a": 10, "b": 30, "c": 20}

Params = dict[str, Tensor]


def params(seed: int) -> Params:
    generator = torch.Generator().manual_seed(seed)
    return {
        "net.q.A": torch.randn(RANK, IN, generator=generator),
        "net.q.B": torch.randn(OUT, RANK, generator=generator),
        "net.head.weight": torch.randn(4, 5, generator=generator),
    }


def sites() -> dict[str, Params]:
    return {site: params(seed) for seed, site in enumerate(STEPS)}


def model(site: str, values: Mapping[str, Any], kind: ParamsType = ParamsType.FULL, **extra: Any) -> FLModel:
    meta = {"client_name": site, "NUM_STEPS_CURRENT_ROUND": STEPS.get(site, 1)}
    return FLModel(params=dict(values), params_type=kind, meta=meta, current_round=0, **extra)


def aggregate(aggregator: ModelAggregator, values: Mapping[str, Params], **kwargs: Any) -> FLModel:
    aggregator.reset_stats()
    for site, tensors in values.items():
        aggregator.accept_model(model(site, tensors, **kwargs))
    return aggregator.aggregate_model()


def mean(values: Mapping[str, Params], name: str) -> Tensor:
    total = sum(STEPS[site] for site in values)
    return sum(STEPS[site] / total * tensors[name].double() for site, tensors in values.items()).float()


def test_lora_svd_gives_the_best_factors_of_the_mean_product_and_means_of_the_rest() -> None:
    found = aggregate(LoRASVDAggregator(), sites())
    assert found.params_type == ParamsType.FULL
    total = sum(STEPS.values())
    product = sum(STEPS[s] / total * (v["net.q.B"] @ v["net.q.A"]).double() for s, v in sites().items())
    u, s, vh = torch.linalg.svd(product)
    best = (u[:, :RANK] * s[:RANK] @ vh[:RANK]).float()
    a, b = found.params["net.q.A"], found.params["net.q.B"]
    torch.testing.assert_close(b @ a, best, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(b.T @ b, torch.eye(RANK), atol=1e-5, rtol=0)  # the paper puts all of S into A
    torch.testing.assert_close(found.params["net.head.weight"], mean(sites(), "net.head.weight"))
    naive = mean(sites(), "net.q.B") @ mean(sites(), "net.q.A")
    assert float((best - naive).norm()) > 0.1 * float(best.norm())  # averaging factors would have been something else


def test_lora_svd_of_one_site_keeps_its_product() -> None:
    one = params(4)
    found = aggregate(LoRASVDAggregator(), {"a": one}).params
    torch.testing.assert_close(found["net.q.B"] @ found["net.q.A"], one["net.q.B"] @ one["net.q.A"])


def test_lora_svd_splits_as_it_is_told() -> None:
    found = aggregate(LoRASVDAggregator(split="symmetric"), sites()).params
    a, b = found["net.q.A"], found["net.q.B"]
    torch.testing.assert_close(a @ a.T, b.T @ b, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="sideways"):
        LoRASVDAggregator(split="sideways")


def test_lora_svd_finds_factors_by_the_names_of_others() -> None:
    names = {
        "net.q.A": "base.q.lora_A.default.weight",
        "net.q.B": "base.q.lora_B.default.weight",
        "net.head.weight": "h.A",
    }
    renamed = {site: {names[name]: tensor for name, tensor in values.items()} for site, values in sites().items()}
    aggregator = LoRASVDAggregator(factor_a=".lora_A.default.weight", factor_b=".lora_B.default.weight")
    found, expected = aggregate(aggregator, renamed).params, aggregate(LoRASVDAggregator(), sites()).params
    assert {name: found[other].tolist() for name, other in names.items()} == {
        name: tensor.tolist() for name, tensor in expected.items()
    }


def test_lora_svd_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"TransferType\.FULL"):
        aggregate(LoRASVDAggregator(), sites(), kind=ParamsType.DIFF)
    with pytest.raises(ValueError, match=r"no pair .* factor_a and factor_b"):
        aggregate(LoRASVDAggregator(factor_a=".down"), sites())
    crossed = {"x.A": torch.ones(2, 4), "x.B": torch.ones(4, 3)}
    with pytest.raises(ValueError, match=r"x\.A \(2, 4\) and x\.B \(4, 3\)"):
        aggregate(LoRASVDAggregator(), {"a": crossed})


@pytest.mark.parametrize("make", [LoRASVDAggregator, SGCAAggregator])
def test_order_does_not_matter_and_a_round_is_forgotten(make: type[ModelAggregator]) -> None:
    forward = aggregate(make(), sites()).params
    aggregator = make()
    for site, values in reversed(sites().items()):
        aggregator.accept_model(model(site, values))
    backward = aggregator.aggregate_model().params
    assert all(torch.equal(forward[name], backward[name]) for name in forward)
    aggregator.reset_stats()
    with pytest.raises(ValueError, match="nothing to aggregate"):
        aggregator.aggregate_model()


@pytest.mark.parametrize("make", [LoRASVDAggregator, SGCAAggregator])
def test_arrays_come_back_as_arrays_and_types_stay(make: type[ModelAggregator]) -> None:
    arrays = {
        site: {name: tensor.double().numpy() for name, tensor in values.items()} for site, values in sites().items()
    }
    for values in arrays.values():
        values["net.counter"] = np.array([5], np.int64)
    found = aggregate(make(), arrays).params
    assert {name: value.dtype for name, value in found.items()} == {
        name: value.dtype for name, value in arrays["a"].items()
    }
    assert found["net.counter"].tolist() == [5]
    half = {site: {n: t.bfloat16() for n, t in values.items()} for site, values in sites().items()}
    assert {value.dtype for value in aggregate(make(), half).params.values()} == {torch.bfloat16}


@pytest.mark.parametrize("make", [LoRASVDAggregator, SGCAAggregator])
def test_a_result_that_is_not_finite_is_left_out_by_name(
    make: type[ModelAggregator], caplog: pytest.LogCaptureFixture
) -> None:
    broken = {**sites(), "b": {**params(1), "net.q.B": torch.full((OUT, RANK), float("nan"))}}
    with caplog.at_level(logging.WARNING):
        found = aggregate(make(), broken)
    assert "site b" in caplog.text
    assert "net.q.B" in caplog.text
    without = {site: values for site, values in sites().items() if site != "b"}
    expected = aggregate(make(), without)
    assert all(torch.equal(found.params[name], expected.params[name]) for name in expected.params)
    assert found.meta["nr_aggregated"] == 2


@pytest.mark.parametrize("make", [LoRASVDAggregator, SGCAAggregator])
def test_results_that_do_not_fit_stop_the_round_by_name(make: type[ModelAggregator]) -> None:
    with pytest.raises(ValueError, match=r"site c: net\.head\.weight has shape \(2, 2\)"):
        aggregate(make(), {**sites(), "c": {**params(2), "net.head.weight": torch.ones(2, 2)}})
    fewer = params(2)
    del fewer["net.head.weight"]
    with pytest.raises(ValueError, match=r"site c: net\.head\.weight has shape none"):
        aggregate(make(), {**sites(), "c": fewer})
    aggregator = make()
    aggregator.accept_model(model("a", params(0)))
    aggregator.accept_model(model("b", params(1), ParamsType.DIFF))
    with pytest.raises(ValueError, match="site b sent DIFF"):
        aggregator.aggregate_model()
    nameless = model("a", params(0))
    nameless.meta.pop("client_name")
    with pytest.raises(ValueError, match="client_name"):
        aggregator.accept_model(nameless)


def test_metrics_are_averaged_where_all_sites_have_them() -> None:
    aggregator = SGCAAggregator()
    aggregator.accept_model(model("a", params(0), metrics={"dice": 0.5, "own": 1.0}))
    aggregator.accept_model(model("b", params(1), metrics={"dice": 0.9, "note": "text"}))
    assert aggregator.aggregate_model().metrics == pytest.approx({"dice": (10 * 0.5 + 30 * 0.9) / 40})


def changes() -> dict[str, Params]:
    """Two sites that moved much alike, and one that moved the other way."""
    one = params(7)
    return {
        "a": one,
        "b": {name: tensor + 0.1 * params(8)[name] for name, tensor in one.items()},
        "c": {name: -tensor for name, tensor in one.items()},
    }


@pytest.mark.parametrize("kind", list(ParamsType)[:2])
def test_sgca_at_a_high_temperature_is_fedavg(kind: ParamsType) -> None:
    aggregator = SGCAAggregator(temperature=1e9)
    for _ in range(2):
        found = aggregate(aggregator, changes(), kind=kind)
        assert found.params_type == kind
        for name in params(0):
            torch.testing.assert_close(found.params[name], mean(changes(), name), atol=1e-6, rtol=1e-5)


def test_sgca_at_a_low_temperature_weighs_all_sites_alike_whatever_their_steps() -> None:
    found = aggregate(SGCAAggregator(temperature=1e-3), sites(), kind=ParamsType.DIFF).params
    for name, tensor in found.items():
        plain = torch.stack([values[name] for values in sites().values()]).mean(dim=0)
        torch.testing.assert_close(tensor, plain, atol=1e-6, rtol=1e-5)


def test_sgcas_weights_are_the_mean_of_the_rows_and_sum_to_one() -> None:
    directions = {
        site: torch.cat([t.flatten() for _, t in sorted(v.items())]).double() for site, v in changes().items()
    }
    rows = []
    for own in directions.values():
        logits = torch.stack([own @ other / own.norm() / other.norm() / 0.5 for other in directions.values()])
        raw = torch.tensor([float(STEPS[s]) for s in directions], dtype=torch.float64) * logits.exp()
        rows.append(raw / raw.sum())
    weights = torch.stack(rows).mean(dim=0)
    assert float(weights.sum()) == pytest.approx(1)
    found = aggregate(SGCAAggregator(temperature=0.5), changes(), kind=ParamsType.DIFF).params
    for name in params(0):
        expected = sum(w * v[name].double() for w, v in zip(weights, changes().values(), strict=True)).float()
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-5)


def test_sgca_with_whole_parameters_compares_with_its_own_last_result() -> None:
    whole, apart = SGCAAggregator(), SGCAAggregator()
    start = aggregate(whole, sites()).params
    for name, tensor in start.items():  # nothing to compare in the first round
        torch.testing.assert_close(tensor, mean(sites(), name))
    moved = {site: {n: start[n] + 0.1 * t for n, t in values.items()} for site, values in changes().items()}
    differences = {site: {n: t - start[n] for n, t in values.items()} for site, values in moved.items()}
    found = aggregate(whole, moved).params
    difference = aggregate(apart, differences, kind=ParamsType.DIFF).params
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, start[name] + difference[name], atol=1e-5, rtol=1e-5)


def test_sgca_needs_a_temperature() -> None:
    with pytest.raises(ValueError, match="above 0"):
        SGCAAggregator(temperature=0)


@pytest.fixture
def toy(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example's network; NVFlare looks for what a job has to carry, and would search all of torch for a Linear."""
    monkeypatch.syspath_prepend(str(repository / "examples" / "stock_fedavg"))
    return importlib.import_module("toy")


def stock_recipe(toy: ModuleType, aggregator: ModelAggregator, folder: Path) -> Path:
    script = folder / "client.py"
    script.write_text("import nvflare.client as flare\n", encoding="utf-8")
    recipe = FedAvgRecipe(
        name="stock", model=toy.ToyLoRA(), min_clients=2, train_script=str(script), aggregator=aggregator
    )
    recipe.export(str(folder / "jobs"))
    return folder / "jobs" / "stock" / "app"


@pytest.mark.parametrize(
    ("aggregator", "args"),
    [
        (LoRASVDAggregator(factor_a=".lora_A", factor_b=".lora_B", split="B"), ["factor_a", "factor_b", "split"]),
        (SGCAAggregator(temperature=0.25), ["temperature"]),
    ],
)
def test_nvflares_stock_recipe_exports_them_with_their_arguments(
    aggregator: ModelAggregator, args: list[str], toy: ModuleType, tmp_path: Path
) -> None:
    app = stock_recipe(toy, aggregator, tmp_path)
    config = json.loads((app / "config" / "config_fed_server.json").read_text(encoding="utf-8"))
    assert [workflow["args"].get("aggregator") for workflow in config["workflows"]] == [
        {
            "path": f"sitelora.flare.aggregators.{type(aggregator).__name__}",
            "args": {name: getattr(aggregator, name) for name in args},
        }
    ]


def test_what_nvflare_copies_into_the_job_is_all_that_they_need(toy: ModuleType, tmp_path: Path) -> None:
    app = stock_recipe(toy, LoRASVDAggregator(), tmp_path)
    # -S: this environment's own SiteLoRA is out of the way, its libraries are not.
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    run = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            "from sitelora.flare import aggregators as a; print(a.__file__, a.SGCAAggregator())",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(app / "custom"), *libraries])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(app / "custom"))
