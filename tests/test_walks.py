"""The two walks of docs/architecture.md, traced in a real round and in a real job: these rooms and no others."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sitelora.commands._values import as_overrides, bundle_value
from sitelora.federation.coordinator import Coordinator
from sitelora.federation.job_folder import JobFolder
from sitelora.federation.plan import FederationPlan
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteSettings
from sitelora.federation.ticket import Ticket
from sitelora.flare.protocol import reply_shareable
from sitelora.settings import read_settings
from sitelora.simulator.resolve_run import choose_run
from small_network import SMALL

VALUES: dict[str, Any] = {**SMALL, "slices": 2, "epochs": 1}
MOST_ROOMS = {"From a volume to the wire": 12, "From `--set method#rank=4` to the tensor": 17}
RANK = 53  # no number that a line of /proc is likely to hold, which the run's lock reads


def rooms(repository: Path, chapter: str) -> list[str]:
    """First column of the table of a chapter."""
    text = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, found, after = text.partition(f"## {chapter}\n")
    assert found, chapter
    return re.findall(r"^\| `([^`]+)` \|", after.partition("\n## ")[0], re.MULTILINE)


@contextmanager
def watching(note: Callable[[str, FrameType, str, Any], None]) -> Iterator[None]:
    """Tell of every call and return in the package: the module's name within it, frame, event, what is returned."""

    def profile(frame: FrameType, event: str, value: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event in ("call", "return") and module.startswith("sitelora."):
            note(module.removeprefix("sitelora."), frame, event, value)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def holds(value: Any, depth: int = 0) -> bool:
    """Say whether a value is the rank, says it in text, or keeps it somewhere near."""
    if type(value) is int:
        return value == RANK
    if isinstance(value, str):
        return value in (str(RANK), f"method#rank={RANK}") or f'rank": {RANK}' in value
    if depth > 4:
        return False
    if isinstance(value, dict):
        return any(
            holds(one, depth + 1) for key, one in value.items() if "rank" in str(key) or not isinstance(one, int)
        )
    if isinstance(value, list | tuple):
        return any(holds(one, depth + 1) for one in value)
    kept = getattr(type(value), "__dataclass_fields__", ())
    return any(holds(getattr(value, name, None), depth + 1) for name in kept if name != "rounds")


@pytest.mark.parametrize("chapter", MOST_ROOMS)
def test_a_walk_has_no_more_rooms_than_it_had_and_each_once(chapter: str, repository: Path) -> None:
    listed = rooms(repository, chapter)
    assert 0 < len(listed) <= MOST_ROOMS[chapter]
    assert len(set(listed)) == len(listed)


def test_a_volume_reaches_the_wire_through_the_rooms_that_the_document_lists(
    repository: Path, tiny_data: Path, tmp_path: Path
) -> None:
    listed = rooms(repository, "From a volume to the wire")
    bundle = {"bundle": "iat_segmentation", "federation": "walk", "uid": "once", "overrides": VALUES}
    site = Site(SiteSettings(site="site-1", data=tiny_data / "prostate/site-1", home=tmp_path / "site", **bundle))
    plan = FederationPlan(dataset="prostate", sites=("site-1",), rounds=1, home=tmp_path / "server", **bundle)
    values = read_settings("iat_segmentation", VALUES)
    coordinator = Coordinator(plan, values.method, values.task)
    begun = site.begin()
    coordinator.begin({"site-1": (begun.tensors, begun.report)})
    message = coordinator.message_for("site-1")
    given: list[str] = []

    def note(module: str, frame: FrameType, event: str, value: Any) -> None:
        room = f"{module}.{frame.f_code.co_qualname}"
        if event == "return" and room in listed and room not in given:
            given.append(room)

    with watching(note):
        answer = site.train(0, message)
        reply_shareable(Ticket(federation="walk", uid="once", round_number=0), answer.tensors, {"cases": 1})
    assert given == listed


def test_a_rank_reaches_its_tensor_through_the_rooms_that_the_document_lists(
    repository: Path, tiny_data: Path, tmp_path: Path, job_of: Callable[..., JobFolder]
) -> None:
    folder = job_of(tmp_path / "jobs", sites=["site-1"], overrides=VALUES).path
    passed: list[str] = []

    def note(module: str, frame: FrameType, event: str, value: Any) -> None:
        code = frame.f_code
        given = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
        if module not in passed and any(holds(one) for one in (given if event == "call" else [value])):
            passed.append(module)

    arguments: dict[str, Any] = {"rounds": None, "method": None, "uid": None, "resume": False, "new": False}
    with watching(note), ExitStack() as held:
        typed = as_overrides([bundle_value(f"method#rank={RANK}")])
        places = {"workspace": None, "home": tmp_path / "home", "data": tiny_data}
        chosen = choose_run(folder, overrides=typed, held=held, **places, **arguments)
        job = JobFolder.read(chosen.job.path).job
        settings = SiteSettings(
            site="site-1",
            federation=job.federation,
            uid="once",
            bundle=job.bundle,
            data=tiny_data / "prostate/site-1",
            home=tmp_path / "site",
            overrides=job.settings,
        )
        network = Site(settings).network
    assert RANK in {parameter.shape[0] for name, parameter in network.named_parameters() if name.endswith(".A")}
    listed = rooms(repository, "From `--set method#rank=4` to the tensor")
    assert sorted(passed) == sorted(listed)
