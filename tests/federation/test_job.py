"""A job's wire: what nobody chose is not said, so that old and new jobs agree; on what is chosen all must agree."""

from __future__ import annotations

from typing import Any

import pytest

from sitelora.federation.job import Job
from sitelora.settings import read_settings
from sitelora.sharing.wire import DOWN, UP, WireFormat
from sitelora.value_kinds import SettingsError

PLAIN: dict[str, Any] = {
    "federation": "fed",
    "bundle": "iat_segmentation",
    "dataset": "prostate",
    "sites": ["site-1"],
    "rounds": 2,
}


def job(**wire: Any) -> Job:
    return Job.from_json({**PLAIN, "wire": wire})


def digests(one: Job) -> dict[str, str]:
    return one.agreed(read_settings(one.bundle))


def test_a_job_from_before_there_were_whole_numbers_says_the_same_as_one_from_now() -> None:
    old = job(dtype="bfloat16", clip_norm=None, noise_std=0.0)
    assert old == job(up="none", down="none") == Job.from_json(PLAIN)
    assert old.to_json()["wire"] == {"dtype": "bfloat16", "clip_norm": None, "noise_std": 0.0}
    assert old.wire == WireFormat()
    assert digests(old)["wire"] == "21348dd6fecea081"  # that of the version before: sites of both versions agree


@pytest.mark.parametrize("wire", [{"up": "int8"}, {"up": "int4", "down": "int8"}, {"down": "int8"}])
def test_what_is_chosen_is_said_and_must_be_agreed_on(wire: dict[str, str]) -> None:
    chosen = job(**wire)
    assert Job.from_json(chosen.to_json()) == chosen
    assert chosen.wire == WireFormat(**wire)
    differing = {key for key, value in digests(chosen).items() if value != digests(job())[key]}
    assert differing == {"wire"}


@pytest.mark.parametrize("wire", [{"up": "int2"}, {"down": "int4"}, {"up": None}, {"up": 8}, {"upwards": "int8"}])
def test_other_words_are_refused(wire: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"wire.*(int8|upwards)"):
        job(**wire)


def test_job_and_wire_know_the_same_words() -> None:
    for up in UP:
        for down in DOWN:
            assert job(up=up, down=down).wire == WireFormat(up=up, down=down)
    with pytest.raises(ValueError, match="down is 'int4'; expected one of none, int8"):
        WireFormat(down="int4")
