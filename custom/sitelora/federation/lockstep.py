"""A site that trains each round in several processes: the site itself, and followers that it starts and ends.

The site's process is the first of them and stays the site: state, way out, audit, scores and log are there alone. A
follower is told, for every round, what the site starts it from (message, companions, private state), trains in lockstep
on its own share of every batch (``together.py``), and says at the end what its trained values hash to, which must be
the site's. It keeps nothing.

Who speaks to whom: the site to each follower over a pair of sockets that only the two have, in the frames of
`frames`: JSON and safetensors, no pickle. Nothing listens anywhere. A follower's command is fixed
(`COMMAND`); what it is told are values, judged again by the readers that the site uses. It ends when its standard input
ends, which the kernel closes however the site's process dies.

A follower that dies, or says nothing for ``PATIENCE_S``, fails the round with the code ``process_lost``; all are ended
then, and the round that is asked for again starts new ones and has the bits that it would have had.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sitelora
from sitelora.federation.exchange import LOST, Leading, heard, told
from sitelora.federation.frames import end_by_input
from sitelora.federation.local_round import LocalRound, Progress, RoundOutcome
from sitelora.federation.site_settings import SiteError, SiteSettings
from sitelora.federation.state import SiteState
from sitelora.federation.together import Together
from sitelora.method import Model
from sitelora.sharing.sealed import seal
from sitelora.sharing.wire import packet_sha256

COMMAND = (sys.executable, "-P", "-m", "sitelora.federation.follower")
"""``-P``: no module is taken from the working folder."""
PATIENCE_S = 600.0


class Followers:
    """The further processes of a site, started when a round needs them.

    Args:
        settings: of the site. count: processes with the site's own. device: of the site; of several GPUs each process
            has the next one. patience_s: how long one may say nothing.
    """

    def __init__(
        self, settings: SiteSettings, *, count: int, device: torch.device, patience_s: float = PATIENCE_S
    ) -> None:
        self.together = Together(rank=0, count=count, device=device)
        self._settings, self._device, self._patience_s = settings, device, patience_s
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[socket.socket] = []
        weakref.finalize(self, _end, self._processes, self._connections)

    @contextlib.contextmanager
    def doing(
        self, number: int, received: Mapping[str, Tensor], companions: Mapping[str, Tensor], state: SiteState
    ) -> Iterator[None]:
        """Have a round done beside what is done here; whatever ends that early ends the followers.

        Raises:
            SiteError: one was lost, or could not go on.
        """
        try:
            if not self._processes:
                self._start()
            words = {"round": number, "delta_rounds": state.delta_rounds, "steps": state.steps}
            groups = {"received": received, "companions": companions, "state": state.tensors()}
            data = seal({f"{group}/{name}": one for group, tensors in groups.items() for name, one in tensors.items()})
            for connection in self._connections:
                told(self._settings.site, connection, words, data)
            yield
        except BaseException:
            self.close()
            raise

    def require_same(self, outcome: RoundOutcome) -> None:
        """Refuse a round after which a follower has other values than the site.

        Raises:
            SiteError: it has, or was lost.
        """
        ours = digest(outcome)
        for connection in self._connections:
            words, _ = heard(self._settings.site, connection)
            if words.get("trained") != ours:
                raise SiteError(
                    f"site {self._settings.site}: its processes ended a round with different values, expected equal "
                    "bits; train on devices of one kind, or with one process",
                    code=LOST,
                )

    def close(self) -> None:
        """End them."""
        _end(self._processes, self._connections)

    def _start(self) -> None:
        for rank in range(1, self.together.count):
            ours, theirs = socket.socketpair()
            ours.settimeout(self._patience_s)
            self._connections.append(ours)
            with theirs:
                process = subprocess.Popen(
                    [*COMMAND, str(theirs.fileno())],
                    stdin=subprocess.PIPE,
                    env=_environment(),
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            self._processes.append(process)
            told(self._settings.site, ours, self._words(rank))
        for connection in self._connections:
            heard(self._settings.site, connection)  # that it is ready, or why it cannot be
        self.together.speak_over(Leading(self._settings.site, self._connections))

    def _words(self, rank: int) -> dict[str, Any]:
        of = self._settings
        device = self._device
        place = f"{device.type}:{(device.index or 0) + rank}" if device.type == "cuda" else str(device)
        return {
            **{key: getattr(of, key) for key in ("site", "federation", "uid", "bundle", "dataset")},
            "data": str(of.data.absolute()),
            "home": str(of.home.absolute()),
            "overrides": dict(of.overrides),
            "site_values": {**of.site_values, "device": place, "processes": 1},
            "own_methods": None if of.own_methods is None else list(of.own_methods),
            "bases": None if of.bases is None else list(of.bases),
            "wire": asdict(of.wire),
            "rank": rank,
            "count": self.together.count,
        }


class LeadingRound(LocalRound):
    """Trains one site's network together with followers.

    Args:
        followers: of the site. given: as of `LocalRound`.
    """

    def __init__(self, *, followers: Followers, **given: Any) -> None:
        super().__init__(together=followers.together, **given)
        self._followers = followers

    def run(
        self,
        round_number: int,
        *,
        received: Mapping[str, Tensor],
        companions: Mapping[str, Tensor],
        state: SiteState,
        progress: Progress | None = None,
    ) -> RoundOutcome:
        """Train for one round, as `LocalRound` and beside the followers.

        Raises:
            SiteError: one was lost, or could not go on.
        """
        with self._followers.doing(round_number, received, companions, state):
            given: dict[str, Any] = {"received": received, "companions": companions, "state": state}
            outcome = super().run(round_number, **given, progress=progress)
            self._followers.require_same(outcome)
        return outcome

    def further(self, model: Model, *, steps: int) -> Model:
        """Return a model after some steps more, which this process does alone."""
        with self._followers.together.alone():
            return super().further(model, steps=steps)


def digest(outcome: RoundOutcome) -> str:
    """Return one hash of what a round trained."""
    return packet_sha256({**outcome.trained, **{f"{name}@local": one for name, one in outcome.state.local.items()}})


def _environment() -> dict[str, str]:
    """Return the environment of a follower: this package, and nothing that a job brings (NVFlare's ``app/custom``)."""
    package = Path(sitelora.__file__).resolve().parent.parent
    others = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one and Path(one).name != "custom"]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *others])}


def _end(processes: list[subprocess.Popen[bytes]], connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()
    end_by_input(processes)
    processes.clear()
    connections.clear()
