"""A whole federation in a loop: same sites, same coordinator, same wire as NVFlare, one process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sitelora.data.site_folder import find_site_folder
from sitelora.federation.bounds import Bounds
from sitelora.federation.bundle_config import set_torch_threads
from sitelora.federation.coordinator import Coordinator
from sitelora.federation.events import EventLog
from sitelora.federation.identity import new_uid
from sitelora.federation.job import Job, wire_arguments
from sitelora.federation.one_base import OneBase
from sitelora.federation.plan import FederationPlan
from sitelora.federation.run_folder import SERVER, RunFolder
from sitelora.federation.run_lock import working
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteError, SiteSettings
from sitelora.home import data_root, home
from sitelora.run_result import ModelScore, Round, RunResult
from sitelora.server.aggregation import Aggregation
from sitelora.settings import RunSettings
from sitelora.sharing.wire import Packet, WireFormat

logger = logging.getLogger(__name__)


def run_in_process(
    *,
    bundle: str,
    dataset: str,
    sites: tuple[str, ...],
    rounds: int,
    federation: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data: Path | None = None,
    home_folder: Path | None = None,
    uid: str | None = None,
    resume: bool = False,
    min_sites: int = 1,
    wire: WireFormat | None = None,
    aggregation: Aggregation | None = None,
    bounds: Bounds | None = None,
    attends: Callable[[str, int], bool] = lambda site, round_number: True,
    on_round: Callable[[Round], None] | None = None,
    evaluate: bool = True,
    afterwards: Callable[[Mapping[str, Site], Callable[[str], Packet]], None] | None = None,
    own_methods: tuple[str, ...] | None = None,
    site_values: Mapping[str, Any] | None = None,
) -> RunResult:
    """Run a federation and return its record, which is also its ``result.json``.

    Args:
        bundle: name of the MONAI bundle. overrides: its values to replace.
        dataset: name of the dataset. data: root of the site folders; by default the site's own configuration.
        sites: names of the sites. rounds: how many.
        federation: name of the federation; by default ``<bundle>_<dataset>``.
        home_folder: where state is kept; by default the site's own configuration.
        uid: of the run; a new one by default. resume: go on with that uid.
        aggregation, bounds: how the server makes one of many updates, and what it takes.
        attends: says whether a site is there in a round.
        on_round: called after each round with the record of it.
        evaluate: score the models after the last round.
        afterwards: called at the end with the sites by name and a function from a site's name to its evaluation
            packet, for what only an experiment on public data may do: scoring models on other sites' cases.
        own_methods: modules outside of SiteLoRA whose functions ``method`` may name; by default `$SITELORA_METHODS`.
        site_values: bundle values that every site sets for itself (``device``, ``batch_size``).

    Raises:
        SettingsError: a value that may not be set, or not to this.
        FederationError: the sites disagree, or too few updates in a round.
        RunningError: another process is at work under this uid; at once.
    """
    root, wire = home_folder or home(), wire or WireFormat()
    job = Job(
        federation=federation or f"{bundle}_{dataset}",
        uid=uid or new_uid(),
        resume=resume,
        bundle=bundle,
        dataset=dataset,
        sites=tuple(sorted(sites)),
        rounds=rounds,
        min_sites=min_sites,
        evaluate=evaluate,
        **wire_arguments(wire),
        aggregation=aggregation or Aggregation(),
        bounds=bounds or Bounds(),
        settings=dict(overrides or {}),
    )
    settings = job.run_settings(own_methods=own_methods, site_values=site_values)
    plan = FederationPlan.of(job, settings, home=root)
    run = RunFolder(plan.run_folder)
    with ExitStack() as held:
        for who in (SERVER, *plan.sites):
            note = EventLog(run.path / who, who)
            held.enter_context(working(run.lock(who), f"{run.path}, {who}", stopped=note.stopped))
        return _run(
            job,
            plan,
            settings,
            data=data or data_root(),
            attends=attends,
            on_round=on_round,
            afterwards=afterwards,
            own_methods=own_methods,
            site_values=site_values,
        )


def _run(
    job: Job,
    plan: FederationPlan,
    settings: RunSettings,
    *,
    data: Path,
    attends: Callable[[str, int], bool],
    on_round: Callable[[Round], None] | None,
    afterwards: Callable[[Mapping[str, Site], Callable[[str], Packet]], None] | None,
    own_methods: tuple[str, ...] | None,
    site_values: Mapping[str, Any] | None,
) -> RunResult:
    rounds = job.rounds
    set_torch_threads(settings)
    coordinator = Coordinator(plan, settings.method, settings.task, resume=job.resume)
    members: dict[str, Site] = {}
    one_base = OneBase()
    for name in plan.sites:
        folder = find_site_folder(job.dataset, name, data)
        members[name] = Site(
            SiteSettings.of_job(
                job,
                federation=plan.federation,
                agreed=plan.agreed,
                site=name,
                uid=plan.uid,
                data=folder,
                home=plan.home,
                own_methods=own_methods,
                site_values=site_values or {},
            ),
            one_base=one_base,
        )
    for site in members.values():
        site.mend()
    begun = {name: site.begin() for name, site in members.items()}
    coordinator.begin({name: (answer.tensors, answer.report) for name, answer in begun.items()})
    for round_number in range(coordinator.next_round, rounds):
        started = time.monotonic()
        for name, site in members.items():
            if not attends(name, round_number):
                coordinator.note_missing(name, "absent")
                continue
            answer = site.train(round_number, coordinator.message_for(name))
            coordinator.receive(name, answer.tensors, answer.report)
        coordinator.close_round(time.monotonic() - started)
        if on_round is not None:
            on_round(coordinator.record.rounds[round_number])
    evaluations: dict[str, Mapping[str, ModelScore]] = {}
    if job.evaluate:
        for name, site in members.items():
            try:
                answer = site.evaluate(coordinator.evaluation_packet(name))
            except SiteError as error:  # it was away in the last round
                coordinator.note_no_scores(name, str(error))
                continue
            scores = coordinator.read_scores(name, answer.report)
            if scores is not None:
                evaluations[name] = scores
    if afterwards is not None:
        afterwards(members, coordinator.evaluation_packet)
    return coordinator.finish(evaluations, completed=True)
