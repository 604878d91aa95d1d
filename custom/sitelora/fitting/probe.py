"""The probe itself, a process of its own: one short round of a job at one site, exactly as a run does it, with a clock.

It is the real site, the real coordinator and the bundle's own trainer; only the number of steps and of cases is small.
Peak memory is then the process's own, and want of it ends this process and not the command that asked.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from sitelora.fitting.measured import WARM_UP, Measured, Memory, ProbeRequest
from sitelora.late_imports import import_late
from sitelora.typed_json import from_json, to_json

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """The most memory that this process has held since it was last asked.

    Linux tells it and takes it back (VmHWM, not ru_maxrss: a process that was started from a large one inherits that);
    elsewhere it is what the process has held at all.
    """

    def __init__(self, device: str) -> None:
        self._card = device if device.startswith("cuda") else None

    def take(self) -> Memory:
        """Return it and begin anew."""
        card = None
        if self._card is not None:
            import torch

            torch.cuda.synchronize(self._card)
            free, total = torch.cuda.mem_get_info(self._card)
            beside = max(0, total - free - torch.cuda.memory_reserved(self._card))  # the context, and others there
            card = torch.cuda.max_memory_reserved(self._card) + beside
            torch.cuda.reset_peak_memory_stats(self._card)
        found = Memory(process=_resident_peak(), card=card)
        with contextlib.suppress(OSError):
            _RESET.write_text("5", encoding="ascii")
        return found


def _resident_peak() -> int:
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else 1024)


class Clock:
    """Seconds of every call of what was wrapped."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a clock around it."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                self.calls.append(time.monotonic() - began)

        return timed


def probe(request: ProbeRequest) -> Measured:
    """Do one short round and say what it took.

    Raises:
        SiteDataError, SettingsError, SiteError, MemoryError, ...: as a site that takes part.
    """
    from sitelora.data.check import check_site_folder
    from sitelora.evaluation.kept_cases import ROOM, KeptCases
    from sitelora.federation.bundle_config import data_needs
    from sitelora.federation.coordinator import Coordinator
    from sitelora.federation.job import Job
    from sitelora.federation.machine import hardware, versions
    from sitelora.federation.plan import FederationPlan
    from sitelora.federation.prefix import room_of_process
    from sitelora.federation.site import Site
    from sitelora.federation.site_settings import SiteSettings

    with contextlib.suppress(ImportError):  # at a hospital the site lives in NVFlare's process
        import sitelora.flare.executor  # noqa: F401
    ready_s = time.time() - psutil.Process().create_time()
    job, name, folder = Job.from_json(request.job), request.site, Path(request.data)
    said = job.run_settings().parser().get_parsed_content
    short = {**job.settings, "epochs": 1, "steps_per_epoch": request.steps}
    job = replace(job, rounds=1, min_sites=1, uid="fit", resume=False, settings=short)
    run, home = job.run_settings(), Path(request.home)
    device = str(said("device"))
    if request.card_bytes is not None and device.startswith("cuda"):
        import torch

        share = request.card_bytes / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), torch.device(device).index)
    plan, peak = FederationPlan.of(job, run, home=home), Peak(device)
    coordinator = Coordinator(plan, run.method, run.task)
    given = {"site": name, "uid": plan.uid, "data": folder, "home": home}
    site = Site(SiteSettings.of_job(job, federation=plan.federation, agreed=plan.agreed, **given))
    cases = site.folder.case_counts()

    marks = [time.monotonic()]
    check_site_folder(folder, needs=data_needs(job.bundle, run.parser())).raise_if_bad()
    marks.append(time.monotonic())
    # A second time, because the site's own trainer keeps its cases to itself.
    case_bytes = _cached_bytes(run.parser(ours={"dataset_dir": str(folder)}).get_parsed_content("train#dataset"))
    marks.append(time.monotonic())
    site.network  # noqa: B018 - built at first use
    marks.append(time.monotonic())
    answer = site.begin()
    coordinator.begin({name: (answer.tensors, answer.report)})
    begin, validations, tests = peak.take(), Clock(), Clock()
    # On the object: the class is everybody's.
    site.scores.__dict__.update(validation=validations.around(site.scores.validation))
    site.scores.__dict__.update(test=tests.around(site.scores.test))

    steps, processor, began = list[float](), list[float](), time.monotonic()

    def note(done: int, total: int, loss: float) -> None:
        steps.append(time.monotonic())
        processor.append(time.process_time())

    answer = site.train(0, coordinator.message_for(name), progress=note)
    ended, train = time.monotonic(), peak.take()
    step_s, followed = _warm(steps), site.local_round.followed
    views, prefix = followed.views, followed.prefix
    first, later = [*validations.calls, 0.0, 0.0][:2]
    validated = max(1, cases["validation"])
    measured = Measured(
        batch=int(said("batch_size")),
        image_size=int(said("image_size")),
        epochs=int(said("epochs")),
        steps_per_epoch=int(said("steps_per_epoch")),
        validate_every=int(said("validate_every")),
        device=device,
        passes=max(1, round(len(steps) / request.steps)),
        cases=cases,
        ready_s=ready_s,
        build_s=marks[3] - marks[2],
        check_case_s=(marks[1] - marks[0]) / sum(cases.values()),
        cache_case_s=(marks[2] - marks[1] + followed.seconds) / cases["training"],
        first_step_s=max(0.0, steps[0] - began - first - step_s - followed.seconds),
        step_s=step_s,
        processor_share=(processor[-1] - processor[0]) / max(1e-9, steps[-1] - steps[0]),
        prepare_case_s=max(0.0, first - later) / validated,
        validation_case_s=later / validated,
        round_rest_s=max(0.0, ended - steps[-1] - later),
        begin=begin,
        train=train,
        case_bytes=(case_bytes + (views.nbytes if views is not None else 0)) // cases["training"],
        prefix_case_bytes=(prefix.nbytes if prefix is not None else 0) // cases["training"],
        prefix_room=room_of_process(),
        kept_bytes=KeptCases.taken() // validated,
        room=ROOM,
        machine=hardware(),
        versions=versions(),
    )
    if not request.evaluates:
        return measured
    coordinator.receive(name, answer.tensors, answer.report)
    coordinator.close_round(ended - began)
    before, began = len(validations.calls), time.monotonic()
    site.evaluate(coordinator.evaluation_packet(name))
    taken, again = time.monotonic() - began, sum(validations.calls[before:])
    return replace(
        measured,
        evaluate=peak.take(),
        test_case_s=sum(tests.calls) / max(1, cases["test"]),
        evaluation_rest_s=max(0.0, taken - sum(tests.calls) - again),
    )


def _warm(steps: list[float]) -> float:
    """Return the median of the seconds between steps, without the first ones."""
    between = [later - earlier for earlier, later in pairwise(steps)]
    return statistics.median(between[WARM_UP - 1 :] or between or [math.nan])


def _cached_bytes(dataset: Any) -> int:
    """Return the bytes of the cases that MONAI's cache holds; 0 where a bundle has none."""
    held = [value for case in getattr(dataset, "_cache", []) for value in (case or {}).values()]
    return sum(int(getattr(value, "nbytes", 0)) for value in held)


def main() -> None:
    """Take a request as JSON on standard input; the last line of standard output is the answer, or what was wrong."""
    request = from_json(ProbeRequest, json.loads(sys.stdin.read()))
    import_late()
    try:
        told = {"measured": to_json(probe(request))}
    except Exception as error:
        from sitelora.federation.refusals import code_of, readable

        told = {"error": readable(error), "code": code_of(error)}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
