"""One small federation a method and task, driven by hand so that a test can look at its packets, states and networks.

Two sites, two rounds, site-2 away in the first. Every packet goes through NVFlare's own serialisation. What is left on
disk after the first round is copied: going on from the copy must end like the whole run.
"""

from __future__ import annotations

import copy
import inspect
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs
from torch import Tensor

from drawn_updates import Adapted
from sitelora.federation.build_network import trained_parameters
from sitelora.federation.bundle_config import load_method
from sitelora.federation.coordinator import Coordinator
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.plan import FederationPlan
from sitelora.federation.site import Site
from sitelora.federation.site_settings import Answer, SiteSettings
from sitelora.federation.ticket import Ticket
from sitelora.flare.protocol import read_reply, read_task, reply_shareable, task_model
from sitelora.method_registry import find_method, method_names, with_arguments
from sitelora.networks.before_built import parts_before
from sitelora.networks.parts import Parts, PartsError
from sitelora.run_result import RunResult
from sitelora.settings import name_method, read_settings, with_method
from small_network import SMALL, small_network
from tried import SITES, tried

FEDERATION, UID = "conformance", "whole"
ROUNDS = 2
VARIANTS = ("flap_sam+adapter=dora", "flap_sam+adapter=mixture")
"""Methods whose arguments put something else into the network."""
BUNDLES = {"segmentation": "iat_segmentation", "classification": "fedopal_classification"}
"""Whose network the methods are tried on, by task."""
CINE = "med_duallora_classification"
"""Whose network is of a third kind, for what is a network's and not a task's."""
AT_EVERY_COMMIT = ("fedopal", "med_duallora")
"""Methods that `make test` tries on classification: its own two. All the others are tried on it by `make soak` and by
`pytest tests/conformance`."""

ROBUST_AT_EVERY_COMMIT = ("fedavg_lora", "scaffold", "hetlora", "flap_sam", "fedex_lora", "flora", "fedsca", "local")
"""One method of every kind of server rule; the robust rules before the others' equal ones are tried by `make soak`."""


def attends(site: str, round_number: int) -> bool:
    return (site, round_number) != ("site-2", 0)


class Drive:
    """A federation of one method, and everything that travelled in it."""

    def __init__(self, name: str, data: Path, home: Path, *, bundle: str) -> None:
        fobs.register(TensorDecomposer)
        self.name, self.data, self.home, self.copy = name, data, home / "home", home / "copy"
        on = tried(bundle)
        self.bundle, self.dataset, self.sites_there, self.attends = bundle, on.dataset, SITES, attends
        own, arguments = with_arguments(name)
        self.function = function = find_method(own)
        defaults = {n: p.default for n, p in inspect.signature(function).parameters.items() if n in ("rank", "scale")}
        self.overrides = with_method(bundle, on.values, own, {**defaults, **arguments})
        self.method = load_method(bundle, self.overrides)
        self.folder = self.home / FEDERATION / UID
        self.network = small_network(bundle)
        self.base = {n: t.clone() for n, t in self.network.state_dict().items()}
        self.partition = self.method.adapt(self.network, seed=0)
        self.shapes = {n: tuple(t.shape) for n, t in self.network.state_dict().items()}
        self.sites = {site: self._site(site) for site in SITES}
        self.raw: dict[tuple[str, int], bytes] = {}
        self.reports: dict[tuple[str, int], Mapping[str, Any]] = {}
        self.sent: dict[tuple[str, int], Mapping[str, Tensor]] = {}
        self.received: dict[tuple[str, int], Mapping[str, Tensor]] = {}
        self.local: dict[tuple[str, int], dict[str, Tensor]] = {}
        self.moved: set[str] = set()
        plan = FederationPlan(
            federation=FEDERATION,
            uid=UID,
            bundle=self.bundle,
            dataset=self.dataset,
            sites=SITES,
            rounds=ROUNDS,
            home=self.home,
            overrides=self.overrides,
        )
        self.coordinator = Coordinator(plan, self.method, self.sites[SITES[0]].task)
        self.frozen_before = {site: self._frozen(site) for site in SITES}
        self.result = self._run()
        self.frozen_after = {site: self._frozen(site) for site in SITES}

    def _site(self, site: str) -> Site:
        settings = SiteSettings(
            site=site,
            federation=FEDERATION,
            uid=UID,
            bundle=self.bundle,
            data=self.data / self.dataset / site,
            home=self.home,
            overrides=self.overrides,
        )
        return Site(settings)

    def _frozen(self, site: str) -> dict[str, Tensor]:
        state = self.sites[site].network.state_dict()
        return {name: state[name].clone() for name in self.partition.frozen}

    def _run(self) -> RunResult:
        begun = {name: site.begin() for name, site in self.sites.items()}
        self.coordinator.begin({name: (self._up(name, BEGIN_ROUND, a), a.report) for name, a in begun.items()})
        for round_number in range(ROUNDS):
            for name, site in self.sites.items():
                if not attends(name, round_number):
                    self.coordinator.note_missing(name, "absent")
                    continue
                before = {n: p.detach().clone() for n, p in trained_parameters(site.network).items()}
                answer = site.train(round_number, self._down(name, round_number))
                after = {n: p.detach().clone() for n, p in trained_parameters(site.network).items()}
                self.local[name, round_number] = {n: after[n] for n in self.partition.local}
                self.moved |= {n for n in after if not torch.equal(before[n], after[n])}
                assert self.coordinator.receive(name, self._up(name, round_number, answer), answer.report)
            self.coordinator.close_round(1.0)
            if round_number == 0:
                shutil.copytree(self.home, self.copy)
        scored = SITES[-1:]  # the one that was away; where ranks differ by site, it has a smaller one
        packets = {name: self.coordinator.evaluation_packet(name) for name in scored}
        scores = {n: self.coordinator.read_scores(n, self.sites[n].evaluate(packets[n]).report) for n in scored}
        return copy.deepcopy(self.coordinator.finish(scores, completed=True))

    def _up(self, site: str, round_number: int, answer: Answer) -> Mapping[str, Tensor]:
        packet = answer.tensors
        self.reports[site, round_number] = answer.report
        ticket = Ticket(federation=FEDERATION, uid=UID, round_number=round_number)
        raw = bytes(fobs.dumps(reply_shareable(ticket, packet, {"cases": 1})))
        reply = read_reply(site, ticket, FLModelUtils.from_shareable(fobs.loads(raw)))
        assert reply.error == ""
        self.raw[site, round_number], self.sent[site, round_number] = raw, packet
        return reply.packet

    def _down(self, site: str, round_number: int) -> Mapping[str, Tensor]:
        packet = self.coordinator.message_for(site)
        ticket = Ticket(federation=FEDERATION, uid=UID, round_number=round_number)
        _, arrived = read_task(fobs.loads(fobs.dumps(FLModelUtils.to_shareable(task_model(ticket, packet)))))
        self.received[site, round_number] = packet
        return arrived


@cache
def parts_on(bundle: str) -> Parts:
    return parts_before(read_settings(bundle, SMALL).parser())


def fits(name: str, bundle: str) -> bool:
    """Whether a method has a meaning on a bundle's network; tests/methods holds why one has none."""
    function, arguments = with_arguments(name)
    try:
        find_method(function)(**arguments).on(parts_on(bundle))
    except PartsError:
        return False
    return True


def tried_on(names: list[str], bundle: str | None) -> Iterator[Any]:
    """Yield every method with every bundle that it is tried on: one a task, unless one is named."""
    for name in names:
        if bundle is not None:
            yield pytest.param((name, bundle), id=name)
            continue
        for task, its_bundle in BUNDLES.items():
            if task == "segmentation" or fits(name, its_bundle):
                late = task != "segmentation" and name not in AT_EVERY_COMMIT
                yield pytest.param((name, its_bundle), id=f"{name}-{task}", marks=[pytest.mark.soak] if late else [])


@pytest.fixture(scope="session")
def data_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Data roots by bundle, written once."""
    roots: dict[str, Path] = {}

    def root(bundle: str) -> Path:
        if bundle not in roots:
            roots[bundle] = tmp_path_factory.mktemp(f"conformance_{bundle}")
            tried(bundle).write(roots[bundle])
        return roots[bundle]

    return root


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--method",
        action="append",
        metavar="NAME",
        help="conformance of this method alone, for example MODULE.FUNCTION",
    )
    parser.addoption("--bundle", metavar="NAME", help="whose network they are tried on; by default one a task")
    parser.addoption(
        "--renew",
        action="append",
        metavar="NAME",
        help="write the committed fingerprint of this method anew and test no other; CHANGELOG says why it changed",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    strangers = {*(metafunc.config.getoption("--renew", None) or ())} - {*method_names(), *VARIANTS}
    if strangers:  # every test would be skipped, and nothing be renewed
        raise pytest.UsageError(f"--renew: no fingerprint is called {', '.join(sorted(strangers))}")
    chosen = metafunc.config.getoption("--method", None) or [*method_names(), *VARIANTS]
    for name in metafunc.config.getoption("--method", None) or ():
        name_method(name)
    if "run" in metafunc.fixturenames:
        pairs = list(tried_on(chosen, metafunc.config.getoption("--bundle")))
        metafunc.parametrize("run", pairs, indirect=True, scope="module")
    if "named" in metafunc.fixturenames:
        bundle = metafunc.config.getoption("--bundle")
        cine = [
            pytest.param((one, CINE), id=f"{one}-cine", marks=[] if one in AT_EVERY_COMMIT else [pytest.mark.soak])
            for one in chosen
            if bundle is None and fits(one, CINE)
        ]
        metafunc.parametrize("named", [*tried_on(chosen, bundle), *cine])
    if "adapted" in metafunc.fixturenames:  # a server rule knows tensors and no task
        robust = metafunc.module.__name__.endswith("test_every_robust_rule")
        late = {name for name in chosen if robust and name not in ROBUST_AT_EVERY_COMMIT}
        params = [pytest.param(n, id=n, marks=[pytest.mark.soak] if n in late else []) for n in chosen]
        metafunc.parametrize("adapted", params, indirect=True, scope="module")


@pytest.fixture(scope="module")
def run(
    request: pytest.FixtureRequest, data_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Drive:
    """The federation of one method on one task; every test of this folder sees it, and none trains again."""
    torch.set_num_threads(1)
    name, bundle = request.param
    home = tmp_path_factory.mktemp(f"conformance_{name}")
    return Drive(name, data_of(bundle), home, bundle=bundle)


@pytest.fixture(scope="module")
def adapted(request: pytest.FixtureRequest) -> Adapted:
    """One method on a small network, with drawn updates for its server rule."""
    name, arguments = with_arguments(request.param)
    return Adapted(find_method(name)(**arguments), bundle=request.config.getoption("--bundle") or "iat_segmentation")
