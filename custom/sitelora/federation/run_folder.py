"""What a run leaves, where, for whom and for how long: the one place that names its files.

    <home>/secret                          the site's own secret
    <home>/epsilon.<site>.jsonl            what has left, by data set, with its noise: the ledger of its privacy budget
    <home>/<federation>/<uid>/             one run; 0700, every file 0600
        lock.json                          the process that started it (`sitelora simulate`)
        stopped.json                       it was stopped on request; the same command goes on with it
        simulator.log  job/  workspace/    what `sitelora simulate` gave to NVFlare, and what NVFlare printed
        report/                            `sitelora report`
        server/ and one folder a site:
            lock.json                      the process that last worked for this participant, and until when
            events.jsonl                   what happened, line by line
            round_NNN/                     state after a round, manifest, at sites update and message; two are kept
            result.json                    server: the record of the run, written at its end
            received.jsonl                 server: hash of every update that it accepted
            audit.jsonl  policy.jsonl      site: every tensor that left; each log has a seal, audit.seal.json
            initial.json                   site: hash of its initial values as they left
            trained_on.json                site: HMACs of the patients that it has trained on
            evaluation/                    site: evaluation.json, answered.json (what left), overlays/, predictions/
            models/personal.pt             site: the model that is served here; global.pt and unseen.pt beside it

Whatever writes into a run does so through the writers of ``files``, which make a thing appear whole or not at all.
Nothing here imports torch, so that `sitelora status` starts at once.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sitelora.names import checked_name

SERVER = "server"
RESULT, EVENTS, AUDIT, POLICY, LOCK = "result.json", "events.jsonl", "audit.jsonl", "policy.jsonl", "lock.json"
MANIFEST, STOPPED, EVALUATION = "manifest.json", "stopped.json", "evaluation.json"
INITIAL, ANSWERED, RECEIVED = "initial.json", "answered.json", "received.jsonl"
TRAINED_ON = "trained_on.json"
PREDICTIONS, OVERLAYS = "predictions", "overlays"
KEPT_ROUNDS = 2
"""How many rounds stay on disk: the last, and the one before it in case the last is damaged or asked for again."""
_ROUND = re.compile(r"round_(\d{3,})")


@dataclass(frozen=True)
class Rounds:
    """The written rounds of one participant, each a folder that is there whole or not at all.

    Attributes:
        folder: of the participant.
    """

    folder: Path

    def path(self, number: int) -> Path:
        """Return where a round is, or would be."""
        return self.folder / f"round_{number:03d}"

    def numbers(self) -> list[int]:
        """Return the numbers of all rounds that are written, in order."""
        found = [_ROUND.fullmatch(path.parent.name) for path in self.folder.glob(f"*/{MANIFEST}")]
        return sorted(int(match.group(1)) for match in found if match)

    def manifest(self, number: int) -> Path:
        """Return where the manifest of a round is, or would be."""
        return self.path(number) / MANIFEST

    def keep_last(self, *, until: int) -> None:
        """Remove rounds after ``until`` (another history) and all but the last ``KEPT_ROUNDS`` before it."""
        kept = [number for number in self.numbers() if number <= until][-KEPT_ROUNDS:]
        for number in set(self.numbers()) - set(kept):
            shutil.rmtree(self.path(number))


@dataclass(frozen=True)
class RunFolder:
    """Names every file of one run.

    Attributes:
        path: ``<home>/<federation>/<uid>``.
    """

    path: Path

    @classmethod
    def of(cls, home: Path, federation: str, uid: str) -> RunFolder:
        """Return the folder of a run.

        Raises:
            ValueError: a name that may not be one.
        """
        return cls(home / checked_name("federation", federation) / checked_name("uid", uid))

    @property
    def federation(self) -> str:
        """Name of the federation."""
        return self.path.absolute().parent.name

    @property
    def uid(self) -> str:
        """Uid of the run."""
        return self.path.absolute().name

    @property
    def server(self) -> Path:
        """What the server keeps."""
        return self.path / SERVER

    @property
    def result(self) -> Path:
        """The record of the run."""
        return self.server / RESULT

    @property
    def stopped(self) -> Path:
        """Says that the run was stopped on request, and what was asked for."""
        return self.path / STOPPED

    @property
    def job(self) -> Path:
        """The job as the simulator ran it."""
        return self.path / "job"

    @property
    def workspace(self) -> Path:
        """The simulator's own folder, which NVFlare empties."""
        return self.path / "workspace"

    @property
    def simulator_log(self) -> Path:
        """What NVFlare's simulator printed."""
        return self.path / "simulator.log"

    @property
    def report(self) -> Path:
        """The report, where no other place is asked for."""
        return self.path / "report"

    def site(self, name: str) -> Path:
        """Return what a site keeps."""
        return self.path / name

    def rounds(self, who: str) -> Rounds:
        """Return the written rounds of a participant."""
        return Rounds(self.path / who)

    def events(self, who: str) -> Path:
        """Return the event log of a participant."""
        return self.path / who / EVENTS

    def lock(self, who: str = "") -> Path:
        """Return the lock of a participant, or of whoever started the run."""
        return self.path / who / LOCK

    def models(self, site: str) -> Path:
        """Return the folder of a site's models."""
        return self.site(site) / "models"

    def personal_model(self, site: str) -> Path:
        """Return the model that a site is served."""
        return self.model(site, "personal")

    def model(self, site: str, kind: str) -> Path:
        """Return the model of a kind at a site: "personal", "global" or "unseen"."""
        return self.models(site) / f"{kind}.pt"

    def evaluation(self, site: str) -> Path:
        """Return the folder of a site's evaluation."""
        return self.site(site) / "evaluation"

    def scores(self, site: str) -> Path:
        """Return the numbers of a site's evaluation."""
        return self.evaluation(site) / EVALUATION

    def overlays(self, site: str) -> Path:
        """Return the pictures of a site's evaluation."""
        return self.evaluation(site) / OVERLAYS

    def participants(self) -> list[str]:
        """Return who has left something here: the server first, then sites by name."""
        known = (EVENTS, LOCK, RESULT, f"evaluation/{EVALUATION}", f"evaluation/{OVERLAYS}", f"round_*/{MANIFEST}")
        found = {path.relative_to(self.path).parts[0] for pattern in known for path in self.path.glob(f"*/{pattern}")}
        return sorted(found, key=lambda name: (name != SERVER, name))

    def is_run(self) -> bool:
        """Say whether anything of a run is here."""
        return self.stopped.is_file() or self.lock().is_file() or bool(self.participants())


def runs_in(home: Path, federation: str = "*") -> Iterator[RunFolder]:
    """Yield the runs of a home, or of one federation in it, by name."""
    for path in sorted(home.glob(f"{federation}/*")):
        run = RunFolder(path)
        if run.is_run():
            yield run
