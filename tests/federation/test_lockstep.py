"""A site that trains in two processes: equal bits whatever happens, and no process left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from class_pictures import DATASET as SHAPES
from class_pictures import write_class_pictures
from sitelora.bundle_source.export import find_source, write_bundle
from sitelora.federation.build_network import partition_of
from sitelora.federation.follower import KEYS, FollowerError, built
from sitelora.federation.local_round import RoundOutcome
from sitelora.federation.lockstep import COMMAND, Followers, LeadingRound, digest
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteError, SiteSettings
from small_network import SMALL

MakeSite = Callable[..., Site]
TOGETHER = {"processes": 2, "epochs": 2}


def a_round(site: Site, **given: Any) -> RoundOutcome:
    local = site.local_round
    received = {name: local.initial[name] for name in partition_of(site.network).shared}
    return local.run(0, received=received, companions={}, state=local.fresh_state(), **given)


def follower_of(site: Site) -> psutil.Process:
    assert isinstance(site.local_round, LeadingRound)
    (process,) = site.local_round._followers._processes
    return psutil.Process(process.pid)


def test_a_round_has_equal_bits_before_and_after_a_follower_was_lost(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path, overrides=TOGETHER)
    before = a_round(site)
    follower = follower_of(site)
    assert before.metrics["steps"] == 2, "two cases, one in each process, twice"
    assert follower.cmdline() == [*COMMAND, follower.cmdline()[-1]], "nothing of the job"
    assert digest(a_round(site)) == digest(before), "with the same follower"
    assert follower_of(site) == follower

    def kill(done: int, total: int, loss: float) -> None:
        follower.kill()

    with pytest.raises(SiteError, match=r"another of its processes ended or stopped .*\"processes\" 1") as lost:
        a_round(site, progress=kill)
    assert lost.value.code == "process_lost"
    assert not follower.is_running()
    again = a_round(site)
    assert digest(again) == digest(before), "with another follower"
    assert again.metrics == before.metrics
    assert all(torch.equal(one, again.state.optimizer[name]) for name, one in before.state.optimizer.items())
    last = follower_of(site)
    site.local_round._followers.close()  # type: ignore[attr-defined]
    assert not last.is_running()


PLAIN = "plain_classification"
FOLLOW = """
import sys
from pathlib import Path
import sitelora.bundle
bundles = Path(sys.argv.pop(1))
sitelora.bundle.bundles_root = lambda: bundles
from sitelora.federation.follower import main
main()
"""


@pytest.mark.parametrize("method", ["share_b", pytest.param("fedopal", marks=pytest.mark.soak)])
def test_two_processes_are_one_with_twice_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """On a bundle without random transforms, whose loss is a mean over cases."""
    said = yaml.safe_load(find_source("fedopal_classification").read_text(encoding="utf-8"))
    said["train"]["train#random_transforms"] = []
    bundles, source = tmp_path / "bundles", tmp_path / f"{PLAIN}.yaml"
    source.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    write_bundle(source, bundles / PLAIN)
    monkeypatch.setattr("sitelora.bundle.bundles_root", lambda: bundles)
    monkeypatch.setattr("sitelora.federation.lockstep.COMMAND", (sys.executable, "-c", FOLLOW, str(bundles)))
    write_class_pictures(tmp_path / "data", ("site-1",))
    found = {}
    for processes in (1, 2):
        values = {**SMALL, "method": method, "epochs": 2, "batch_size": 2 // processes, "processes": processes}
        folder = tmp_path / "data" / SHAPES / "site-1"
        at: dict[str, Any] = {"site": "site-1", "federation": "f", "uid": "u", "data": folder, "home": tmp_path / "h"}
        site = Site(SiteSettings(**at, bundle=PLAIN, overrides=values))
        found[processes] = a_round(site)
    site.local_round._followers.close()  # type: ignore[attr-defined]
    one, two = found[1], found[2]
    assert one.metrics["steps"] == two.metrics["steps"]
    assert one.metrics["loss"] == pytest.approx(two.metrics["loss"], abs=1e-5)
    for name, tensor in one.trained.items():
        assert float((tensor - two.trained[name]).abs().max()) <= 1e-5, name


def test_a_follower_takes_nothing_but_what_a_site_says() -> None:
    with pytest.raises(FollowerError, match="expected site, federation"):
        built({**dict.fromkeys(KEYS, ""), "code": "import os"}, None)  # type: ignore[arg-type]
    assert COMMAND[1:] == ("-P", "-m", "sitelora.federation.follower")


def test_a_follower_that_cannot_be_says_why(make_site: MakeSite, tmp_path: Path) -> None:
    """Refused by the readers that the site uses, with their code."""
    site = make_site(tmp_path, overrides=TOGETHER)
    wrong = replace(site.settings, overrides={**site.settings.overrides, "learning_rate": -1.0})
    followers = Followers(wrong, count=2, device=torch.device("cpu"))
    with pytest.raises(SiteError, match=r"another of its processes: .*learning_rate") as refused:
        followers._start()
    assert refused.value.code == "settings_refused"
    followers.close()


@pytest.mark.soak
def test_a_follower_that_hangs_fails_the_round_in_bounded_time(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(tmp_path, overrides=TOGETHER)
    before = a_round(site)
    follower, local = follower_of(site), site.local_round
    for connection in local._followers._connections:  # type: ignore[attr-defined]
        connection.settimeout(3)
    follower.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(SiteError) as lost:
        a_round(site)
    assert lost.value.code == "process_lost"
    assert time.monotonic() - started < 60
    assert not follower.is_running()
    assert digest(a_round(site)) == digest(before)
    local._followers.close()  # type: ignore[attr-defined]


WHOLE = """
import json, sys, time
from pathlib import Path
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteSettings
told = json.loads(sys.argv[1])
site = Site(SiteSettings(**{**told, "data": Path(told["data"]), "home": Path(told["home"])}))
site.local_round._followers._start()
print(site.local_round._followers._processes[0].pid, flush=True)
time.sleep(600)
"""


@pytest.mark.soak
def test_a_follower_ends_with_its_site_whatever_ends_that(make_site: MakeSite, tmp_path: Path) -> None:
    of = make_site(tmp_path, overrides=TOGETHER).settings
    told = {key: getattr(of, key) for key in ("site", "federation", "uid", "bundle", "overrides")}
    asked = json.dumps({**told, "data": str(of.data), "home": str(of.home)})
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    site = subprocess.Popen([sys.executable, "-c", WHOLE, asked], stdout=subprocess.PIPE, text=True, env=env)
    assert site.stdout is not None
    follower = psutil.Process(int(site.stdout.readline()))
    site.kill()
    site.wait()
    psutil.wait_procs([follower], timeout=20)
    assert not follower.is_running()
