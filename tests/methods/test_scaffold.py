"""SCAFFOLD: the objective of every other method under plain SGD, a correction of the gradient's order under AdamW."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor, nn

from sitelora.data.phantom.make import TINY, make_phantom
from sitelora.federation.gradients import Gradients
from sitelora.federation.in_process import run_in_process
from sitelora.method import Method
from sitelora.methods.fedavg_lora import fedavg_lora
from sitelora.methods.scaffold import MeanWithControl, scaffold
from sitelora.regularizers.base import SiteView
from sitelora.server.types import ANY_SITE, Message, Update

ENGINE = Engine(lambda engine, batch: None)
CASES = {"s1": 30, "s2": 5, "s3": 2}


@dataclass
class Bowl:
    """A site whose task is ``(w - t)^T H (w - t) / 2``."""

    hessian: Tensor
    target: Tensor
    steps: int

    def loss(self, w: Tensor) -> Tensor:
        return (w - self.target) @ self.hessian @ (w - self.target) / 2


def bowls() -> dict[str, Bowl]:
    found = {}
    for number, site in enumerate(CASES):
        generator = torch.Generator().manual_seed(number)
        root = torch.randn(4, 4, generator=generator) / 2
        found[site] = Bowl(
            hessian=root @ root.T + 0.2 * torch.eye(4), target=3 * torch.randn(4, generator=generator), steps=5 + number
        )
    return found


def optimum(sites: Mapping[str, Bowl]) -> Tensor:
    """Where the mean of the tasks by cases is least."""
    hessian = sum(CASES[name] * site.hessian for name, site in sites.items())
    pull = sum(CASES[name] * site.hessian @ site.target for name, site in sites.items())
    return torch.linalg.solve(hessian, pull)


def trained(method: Method, *, rounds: int, attends: Callable[[str, int], bool] = lambda site, number: True) -> Tensor:
    """Run a method's own penalty, program and server rule by plain SGD, and return the server's ``w``."""
    sites, memory = bowls(), {site: {} for site in CASES}
    message, state = Message(values={"w": torch.zeros(4)}), {}
    for number in range(rounds):
        updates = {}
        for name, site in sites.items():
            if not attends(name, number):
                continue
            parameters = {"w": nn.Parameter(message.values["w"].clone())}
            view = SiteView(
                round_number=number,
                parameters=parameters,
                shared=frozenset({"w"}),
                local=frozenset(),
                received=message.values,
                companions=message.companions,
                memory=memory[name],
            )
            gradients = Gradients(parameters)
            gradients.begin(view, method.regularizers, {"w"}, mean=method.program.wants_gradients)
            optimizer = torch.optim.SGD(parameters.values(), lr=0.05)
            for _ in range(site.steps):
                optimizer.zero_grad()
                site.loss(parameters["w"]).backward()
                gradients.finish(ENGINE)
                optimizer.step()
                gradients.after_step()
            view.mean_gradient = gradients.mean()
            companions = method.program.after_training(view, steps=site.steps, learning_rate=0.05)
            values = {"w": parameters["w"].detach().clone()}
            updates[name] = Update(values=values, received=message.values, companions=companions, cases=CASES[name])
        messages, state = method.server(updates, state, number)
        message = messages[ANY_SITE]
    return message.values["w"]


def test_plain_sgd_with_unequal_cases_reaches_the_optimum_weighted_by_cases() -> None:
    best = optimum(bowls())
    assert float((trained(scaffold(), rounds=400) - best).norm()) < 1e-4
    assert float((trained(fedavg_lora(), rounds=400) - best).norm()) > 0.03  # what the controls are for


def test_it_reaches_it_where_a_site_is_missing_every_other_round() -> None:
    found = trained(scaffold(), rounds=900, attends=lambda site, number: site != "s2" or number % 2 == 0)
    best = optimum(bowls())
    averaged = trained(fedavg_lora(), rounds=900, attends=lambda site, number: site != "s2" or number % 2 == 0)
    assert float((found - best).norm()) < 0.5 * float((averaged - best).norm())


def test_with_plain_sgd_the_control_is_option_two_of_the_paper() -> None:
    """``c_k - c + (w_received - w) / (T eta)``, with a correction that is not zero."""
    method, site, received = scaffold(), bowls()["s1"], torch.ones(4)
    server, own = torch.randn(4, generator=torch.Generator().manual_seed(1)), torch.full((4,), 0.3)
    parameters = {"w": nn.Parameter(received.clone())}
    view = SiteView(
        round_number=1,
        parameters=parameters,
        shared=frozenset({"w"}),
        local=frozenset(),
        received={"w": received},
        companions={"control/w": server},
        memory={"control/w": own},
    )
    gradients = Gradients(parameters)
    gradients.begin(view, method.regularizers, {"w"}, mean=True)
    optimizer = torch.optim.SGD(parameters.values(), lr=0.05)
    for _ in range(7):
        optimizer.zero_grad()
        site.loss(parameters["w"]).backward()
        gradients.finish(ENGINE)
        optimizer.step()
    view.mean_gradient = gradients.mean()
    sent = method.program.after_training(view, steps=7, learning_rate=0.05)["control/w"]
    torch.testing.assert_close(sent, own - server + (received - parameters["w"].detach()) / (7 * 0.05))
    assert torch.equal(view.memory["control/w"], sent)


def test_the_servers_control_is_the_mean_by_cases_of_all_sites_seen_so_far() -> None:
    one = Update(values={"w": torch.zeros(1)}, received={"w": torch.zeros(1)}, cases=1)
    update = {
        "a": replace(one, companions={"control/w": torch.tensor([8.0])}, cases=3),
        "b": replace(one, companions={"control/w": torch.tensor([4.0])}),
    }
    messages, state = MeanWithControl()(update, {}, 0)
    assert messages[ANY_SITE].companions["control/w"].tolist() == [7.0]
    alone = {"b": replace(one, companions={"control/w": torch.tensor([0.0])})}
    messages, state = MeanWithControl()(alone, state, 1)
    assert messages[ANY_SITE].companions["control/w"].tolist() == [6.0]


def test_under_adamw_the_correction_is_of_the_gradients_order(tmp_path: Path) -> None:
    """A control out of the steps would be hundreds of times the gradient."""
    sites = ("site-1", "site-2")
    make_phantom(tmp_path / "data", size=TINY, sites=sites)
    result = run_in_process(
        bundle="iat_segmentation",
        dataset="prostate",
        sites=sites,
        rounds=3,
        data=tmp_path / "data",
        home_folder=tmp_path,
        evaluate=False,
        overrides={
            **{"image_size": 32, "slices": 2, "epochs": 2, "precision": "fp32"},
            **{"method": "scaffold", "method#rank": 2, "max_gradient_norm": 0.0},
        },
    )
    assert all("regularizer_share" not in entry.metrics for entry in result.rounds[0].sites.values())
    for number in (1, 2):
        for entry in result.rounds[number].sites.values():
            assert 0.05 < entry.metrics["regularizer_share"] < 5
            assert entry.metrics["regularizer_share_unbounded"] < 20


@pytest.mark.parametrize("missing", ["memory", "companions"])
def test_without_a_control_of_its_own_or_the_servers_nothing_is_corrected(missing: str) -> None:
    parameters = {"w": nn.Parameter(torch.ones(2))}
    known = {"memory": {"control/w": torch.ones(2)}, "companions": {"control/w": torch.full((2,), 5.0)}}
    known[missing] = {}
    view = SiteView(
        round_number=1, parameters=parameters, shared=frozenset({"w"}), local=frozenset(), received={}, **known
    )
    (rule,) = scaffold().regularizers
    assert not rule.start(view)().requires_grad
