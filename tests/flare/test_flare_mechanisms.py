"""Every mechanism of aggregation once through NVFlare's simulator: the same tensors and bytes as in one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitelora.federation.job_folder import JobFolder
from sitelora.settings import with_method
from sitelora.simulator.simulate import simulate

pytestmark = pytest.mark.soak

SITES = ("site-1", "site-2")
ROUNDS = 3
MECHANISMS = {
    "mean": ("fedavg_lora", {}),
    "SVD of the mean product": ("flap_sam", {}),
    "one mixture a site": ("fedsca", {}),
    "base delta": ("fedex_lora", {}),
    "stacked base delta and fresh factors": ("flora", {}),
    "passes in turn": ("rolora", {}),
    "state at server and sites": ("scaffold", {}),
    "private copy": ("ditto", {}),
    "a rank a site": ("hetlora", {"ranks": {"site-1": 2}}),
    "nothing shared": ("local", {}),
}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_simulator_gives_the_tensors_of_the_in_process_federation(
    mechanism: str,
    job_of: Callable[..., JobFolder],
    in_process_of: Callable[..., dict[str, Any]],
    tiny_data: Path,
    overrides: dict[str, Any],
    tmp_path: Path,
) -> None:
    name, arguments = MECHANISMS[mechanism]
    values = with_method("iat_segmentation", overrides, name, arguments)
    expected = in_process_of(rounds=ROUNDS, overrides=values)
    job = job_of(tmp_path, rounds=ROUNDS, overrides=values)
    done = simulate(job.path, home=tmp_path / "home", data=tiny_data, uid="run-1")
    assert done.problems == ()
    assert done.result is not None
    assert done.result.fingerprint == expected.fingerprint
    assert done.result.evaluation == expected.evaluation
    for before, found in zip(expected.rounds, done.result.rounds, strict=True):
        assert found.server == before.server  # only where pairs are shared
        for site in SITES:
            for key in ("bytes_up", "bytes_down", "metrics"):
                assert getattr(found.sites[site], key) == getattr(before.sites[site], key), (site, key)
