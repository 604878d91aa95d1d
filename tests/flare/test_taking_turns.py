"""Who may have a worker: sites of NVFlare's simulator that take turns, and nobody else, whatever a job says."""

from argparse import Namespace
from collections.abc import Callable

import pytest
import torch
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.job_def import JobMetaKey
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils.class_loader import get_class_name
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants
from nvflare.private.fed.simulator.simulator_server import SimulatorServerEngine

from sitelora.flare.executor import SiteExecutor
from sitelora.flare.sealed_tensors import PassedTensorDecomposer, passed
from sitelora.flare.taking_turns import turns_at_server, turns_at_site
from sitelora.sharing.sealed import unpack

Contexts = Callable[..., FLContext]
SITES = [{"name": f"site-{number}"} for number in (1, 2, 3)]


def told(fl_ctx: FLContext, *, threads: object = 1, gpu: str | None = None, sites: object = SITES) -> FLContext:
    """A context with what NVFlare says of a run of three sites in one thread, or of another."""
    fl_ctx.set_prop(FLContextKey.ARGS, Namespace(threads=threads, gpu=gpu), private=True, sticky=True)
    fl_ctx.set_prop(FLContextKey.JOB_META, {JobMetaKey.JOB_CLIENTS.value: sites}, private=True, sticky=True)
    return fl_ctx


def test_a_simulated_site_takes_turns_where_there_are_fewer_threads_than_sites(context: Contexts) -> None:
    assert turns_at_site(told(context(simulated=True)))
    assert turns_at_site(told(context(simulated=True), threads=2))
    assert not turns_at_site(told(context(simulated=True), threads=3))


@pytest.mark.parametrize(
    "said", [{"gpu": "[0],[1]"}, {"threads": None}, {"threads": 0}, {"sites": None}, {"sites": "site-1"}]
)
def test_where_gpus_are_dealt_out_or_nothing_is_known_there_is_no_worker(
    context: Contexts, said: dict[str, object]
) -> None:
    assert not turns_at_site(told(context(simulated=True), **said))
    assert not turns_at_site(context(simulated=True))


def test_in_poc_and_production_there_is_none_whatever_a_job_is_called_and_says(
    context: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server names jobs and writes their meta; the mode of the simulator is NVFlare's own, in the site's process."""
    fl_ctx = told(context())
    assert not turns_at_site(fl_ctx)
    monkeypatch.setattr(fl_ctx, "get_job_id", lambda default=None: SimulatorConstants.JOB_NAME)
    assert not turns_at_site(fl_ctx)
    assert turns_at_server(fl_ctx) == 0, "an engine of another class"
    claimed = told(context(simulated=True))
    claimed.set_prop(FLContextKey.SIMULATE_MODE, "yes", private=True, sticky=True)
    assert not turns_at_site(claimed)


def test_the_simulators_server_has_as_many_workers_as_threads(context: Contexts) -> None:
    engine = SimulatorServerEngine.__new__(SimulatorServerEngine)

    def server(job: str) -> FLContext:
        manager = FLContextManager(engine=engine, identity_name="server", job_id=job)
        return told(manager.new_context(), threads=2)

    assert turns_at_server(server(SimulatorConstants.JOB_NAME)) == 2
    assert turns_at_server(server("5a8bc6a5-b5ad-4cbf-a332-bb5463c73e12")) == 0
    assert turns_at_server(told(context("server", simulated=True))) == 0, "a site's context has a site's engine"


def test_an_executor_that_was_never_told_of_turns_asks_nobody(context: Contexts) -> None:
    assert SiteExecutor()._workers is None


def test_a_passed_tensor_is_for_nvflare_what_a_tensor_is() -> None:
    ours, nvflares = PassedTensorDecomposer(), TensorDecomposer()
    tensor = torch.tensor([[1.5, -0.0]], dtype=torch.bfloat16)
    sealed = ours.native_recompose(nvflares.native_decompose(tensor))
    assert (sealed.dtype, sealed.shape) == ("BF16", (1, 2))
    assert nvflares.native_recompose(ours.native_decompose(sealed)).equal(tensor)
    assert get_class_name(ours.supported_type()) == get_class_name(nvflares.supported_type()) == "torch.Tensor"
    assert ours.supported_dots() == nvflares.supported_dots()
    offered = ours.to_downloadable({"T0": sealed}, 1 << 20, {}).produce_item(0)
    assert passed(unpack(offered)) == {"T0": sealed}
