"""A job's values are judged before any process of the run starts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitelora.federation.job_folder import JobFolder
from sitelora.simulator.simulate import simulate
from sitelora.value_kinds import SettingsError

Jobs = Callable[..., JobFolder]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lerning_rate": 1}, "did you mean 'learning_rate'"),
        ({"method#rank": 100000}, "1 to 256"),
        ({"arch": "vit_b"}, "sam_vit_b"),
    ],
)
def test_values_of_a_job_are_judged_before_a_process_starts(
    settings: dict[str, Any], told: str, job_of: Jobs, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "jobs")
    path = job.path / "app" / "config" / "sitelora.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": settings}))
    with pytest.raises(SettingsError) as caught:
        simulate(job.path, home=tmp_path / "home")
    assert told in str(caught.value)
    assert not (tmp_path / "home").exists()
