"""`sitelora fit`: probe a job at a site, at a few batches and image sizes, and draw the conclusions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sitelora.declared import declared
from sitelora.federation.bundle_config import data_needs
from sitelora.federation.job import Job
from sitelora.fitting.cases import described, probe_cases
from sitelora.fitting.child import DoesNotFit, FitError, run_probe
from sitelora.fitting.estimate import (
    MARGIN,
    PRESETS_GB,
    Line,
    Seconds,
    batches_to_probe,
    process_bytes,
    seconds_of,
)
from sitelora.fitting.measured import WARM_UP, Measured, Memory, ProbeRequest
from sitelora.memory import memory_free
from sitelora.settings import changed_values
from sitelora.stopping import stops_as_interrupt
from sitelora.value_kinds import SettingsError

STEPS, FEWER_STEPS = WARM_UP + 5, WARM_UP + 2
"""Of a probe that gives times, and of one that is for its memory."""
LEFT_TO_OTHERS = 0.95
"""Of the memory that is free now, what a probe may take before it is ended."""
_LARGER = (1.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One probe in the table.

    Attributes:
        batch, image_size: at which. bytes: of the memory that counts, with all cases; None where it did not fit.
        step_s: seconds of a step. why: it did not fit.
    """

    batch: int
    image_size: int
    bytes: float | None = None
    step_s: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The answer.

    Attributes:
        job, site, bundle, rounds: what was asked about. data: what the probe ran on, in words.
        artificial: whether that was drawn. counts: cases that were reckoned with, by split.
        measured: at the job's own values. on_card: whether ``bytes`` are a card's, else the process's.
        memory_bytes: that there are. bytes: at the job's values. process_bytes: resident, the same on a processor.
        fits: with the margin. seconds: what it takes. line: of the memory in the batch. tried: every probe.
        largest_batch: by GB of memory; ``here`` for what there is. most_batch: that may be set at
            all. largest_image: of those tried that fit, at the
            job's batch.
    """

    job: str
    site: str
    bundle: str
    rounds: int
    data: str
    artificial: bool
    counts: Mapping[str, int]
    measured: Measured
    on_card: bool
    memory_bytes: float
    bytes: float
    process_bytes: float
    fits: bool
    seconds: Seconds
    line: Line
    tried: Sequence[Tried]
    here: int
    largest_batch: Mapping[str, int]
    most_batch: int
    largest_image: int | None


def fit(
    job: Job,
    *,
    site: str,
    data: Path | None,
    values: Mapping[str, Any],
    memory_bytes: float | None,
    quick: bool = False,
    cases: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Fit:
    """Probe a job at a site.

    Args:
        job: as it was read. site: which. data: root of the site folders; None for the configured one.
        values: in place of the job's. memory_bytes: that there are; None for what is free here.
        quick: two batches and no other image size. cases: training cases of the site, in place of those counted.
        say: told what is being done.

    Raises:
        FitError: it does not fit at batch 1, or cannot be probed. SettingsError, SiteDataError: as for a run.
    """
    if site not in job.sites:
        raise FitError(f"{job.federation} has no site {site}; expected one of {', '.join(job.sites)}")
    job = replace(job, settings=changed_values(job.bundle, job.settings, values))
    settings = job.run_settings()
    settings.require_base()
    parser = settings.parser()
    wanted, size = int(parser["batch_size"]), int(parser["image_size"])
    device = str(parser.get_parsed_content("device"))
    there_is = memory_bytes or _memory_of(device)
    # A request to end is an exception: what links to the site's images goes, and so does the probe.
    with stops_as_interrupt(), tempfile.TemporaryDirectory(prefix="sitelora-fit-") as scratch:
        found = probe_cases(
            job.dataset, site, data_needs(job.bundle, parser), root=data, out=Path(scratch) / "data", named=bool(data)
        )
        counts = {**found.counts, **({} if cases is None else {"training": cases})}
        prober = _Prober(job, site, found.folder, Path(scratch), there_is, counts, on_card=device.startswith("cuda"))
        own, batch, too_large = prober.first(wanted, say)
        points, floor = {batch: prober.bytes(own, own.train)}, prober.floor(own)
        for other in batches_to_probe(batch)[1 : 2 if quick else None]:
            if too_large is not None and other >= too_large:
                break
            say(f"probing batch {other}")
            told = prober.run(batch=other, steps=FEWER_STEPS)
            if isinstance(told, DoesNotFit):
                too_large = other
                break
            points[other] = prober.bytes(told, told.train)
        image = None if quick else _sizes(prober, job, batch, size, say)
    line = Line.through(points, floor=floor)
    most = most_batch(job.bundle)
    largest = {f"{gigabytes} GB": line.largest(gigabytes * 1e9, most=most) for gigabytes in PRESETS_GB}
    return Fit(
        job=job.federation,
        site=site,
        bundle=job.bundle,
        rounds=job.rounds,
        data=described(replace(found, counts=counts), site),
        artificial=found.artificial,
        counts=counts,
        measured=own,
        on_card=prober.on_card,
        memory_bytes=there_is,
        bytes=line.at(wanted),
        process_bytes=max(process_bytes(own, phase, counts) for phase in (own.begin, own.train, own.evaluate) if phase),
        fits=batch == wanted and line.at(wanted) <= there_is / MARGIN,
        seconds=seconds_of(own, counts, rounds=job.rounds, evaluates=job.evaluate),
        line=line,
        tried=prober.tried,
        here=line.largest(there_is, most=most, below=too_large),
        largest_batch=largest,
        most_batch=most,
        largest_image=image,
    )


def most_batch(bundle: str) -> int:
    """Return the largest batch that a bundle lets a site set."""
    limits = declared(bundle)["batch_size"].kind.limits
    assert limits is not None
    return int(limits.most)


def _sizes(prober: _Prober, job: Job, batch: int, size: int, say: Callable[[str], None]) -> int | None:
    """Probe larger images where the network takes them; return the largest that fits."""
    largest = None
    for larger in (round(size * by / 16) * 16 for by in _LARGER):
        try:
            replace(job, settings={**job.settings, "image_size": larger}).run_settings()
        except SettingsError:  # this network has none of that size
            continue
        say(f"probing images of {larger} pixels")
        told = prober.run(batch=batch, image_size=larger, steps=FEWER_STEPS)
        if isinstance(told, DoesNotFit):
            break
        if prober.bytes(told, told.train) > prober.there_is / MARGIN:
            break
        largest = larger
    return largest


class _Prober:
    """Runs probes of one job and notes what came of each."""

    def __init__(
        self,
        job: Job,
        site: str,
        data: Path,
        scratch: Path,
        there_is: float,
        counts: Mapping[str, int],
        *,
        on_card: bool,
    ) -> None:
        self._job, self._site, self._data, self._scratch = job, site, data, scratch
        self._counts, self.there_is, self.on_card = counts, there_is, on_card
        self.tried: list[Tried] = []
        free = memory_free() * LEFT_TO_OTHERS
        self._most = int(free if on_card else min(free, there_is))

    def first(self, batch: int, say: Callable[[str], None]) -> tuple[Measured, int, int | None]:
        """Return the probe at the job's batch, or at the largest half of it that fits, with the batch that did not."""
        too_large = None
        while True:
            say(f"probing batch {batch}")
            told = self.run(batch=batch, steps=STEPS, evaluates=self._job.evaluate)
            if isinstance(told, Measured):
                return told, batch, too_large
            if batch == 1:
                raise FitError(
                    f"does not fit at batch 1 in {self.there_is / 1e9:.2f} GB: {told.why}. Give the site more memory, "
                    "or ask the federation's lead for a smaller image_size, fewer slices or a smaller arch: they are "
                    "the same at all sites"
                )
            batch, too_large = batch // 2, batch

    def run(self, *, batch: int, steps: int, image_size: int | None = None, evaluates: bool = False) -> Any:
        """Run one probe; return `Measured` or `DoesNotFit`."""
        values = {**self._job.settings, "batch_size": batch}
        if image_size is not None:
            values["image_size"] = image_size
        job, number = replace(self._job, settings=values), len(self.tried)
        home = self._scratch / f"home-{number}"
        home.mkdir()
        told = run_probe(
            ProbeRequest(
                job=job.to_json(),
                site=self._site,
                data=str(self._data),
                home=str(home),
                steps=steps,
                evaluates=evaluates,
                card_bytes=int(self.there_is) if self.on_card else None,
            ),
            most_bytes=self._most,
        )
        size = image_size or int(job.run_settings().parser()["image_size"])
        if isinstance(told, DoesNotFit):
            self.tried.append(Tried(batch=batch, image_size=size, why=told.why))
        else:
            taken = self.bytes(told, told.train)
            self.tried.append(Tried(batch=batch, image_size=size, bytes=taken, step_s=told.step_s))
        return told

    def bytes(self, measured: Measured, memory: Memory) -> float:
        """Return the memory that counts: the card's where there is one, else the process's with all cases."""
        return memory.card if memory.card is not None else process_bytes(measured, memory, self._counts)

    def floor(self, measured: Measured) -> float:
        """Return what a probe held in the phases that do not grow with the batch."""
        phases = [measured.begin, *([measured.evaluate] if measured.evaluate is not None else [])]
        return max(self.bytes(measured, phase) for phase in phases)


def _memory_of(device: str) -> float:
    """Return the bytes that there are: of the whole card, else those that this process can take now."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.get_device_properties(device).total_memory)  # no context: the probe would count it
    return float(memory_free())
