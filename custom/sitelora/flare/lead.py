"""What a lead does at a running system with a startup kit: submit, look, download; NVFlare's session in our words."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from nvflare.apis.fl_exception import FLCommunicationError
from nvflare.fuel.flare_api import api_spec
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from sitelora.flare.asking import STANDING

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

ANSWER_S, DOWNLOAD_S = 120.0, 3600.0
"""How long an answer may take. NVFlare bounds most of its waiting, but not all: a login on a busy machine hung once."""
_AWAY = (api_spec.NoConnection, api_spec.SessionClosed, FLCommunicationError, ConnectionError, OSError)


class LeadError(RuntimeError):
    """What was asked of the system cannot be had; the message says what to do."""


class ServerAwayError(LeadError):
    """The server does not answer now; it may later."""


class Lead:
    """A session with a federation's server that is opened when needed, and again after the server was away.

    Args:
        kit: folder of a lead's or an administrator's startup kit. connect_s: seconds that an attempt may take.

    Raises:
        LeadError: it is no such kit.
    """

    def __init__(self, kit: Path, *, connect_s: float = 20.0) -> None:
        self.kit = kit.absolute()
        self.name = _name_in(self.kit)
        self._connect_s = connect_s
        self._session: Session | None = None

    def submit(self, job: Path, token: str) -> str:
        """Submit a job folder and return the job's id.

        Args:
            job: the folder. token: one for every submission that is meant, so that asking again submits it once.

        Raises:
            LeadError: the server refuses it; with its reason.
        """
        try:
            return self._call(lambda session: session.submit_job(str(job), token))
        except (api_spec.InvalidJobDefinition, api_spec.AuthorizationError, api_spec.InternalError) as error:
            raise LeadError(f"the server refused the job, nothing runs: {error}") from error

    def meta(self, job_id: str) -> Mapping[str, Any]:
        """Return what the server knows of a job: its status, how it was scheduled and deployed."""
        return self._call(lambda session: session.get_job_meta(job_id))

    def standing(self, job_id: str) -> Mapping[str, Any]:
        """Return where a running job stands, as its controller says; empty where it does not run, or not yet."""
        try:
            told = self._call(lambda session: session.show_stats(job_id, api_spec.TargetType.SERVER))
        except ServerAwayError:
            raise
        except Exception as error:  # NVFlare has many words for "it does not run"
            logger.debug("no statistics of job %s: %r", job_id, error)
            return {}
        server = told.get("server") if isinstance(told, Mapping) else None
        found = server.get(STANDING) if isinstance(server, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def server_started(self) -> float:
        """Return when the server was started; another time means that it has forgotten what ran."""
        return float(self._call(lambda session: session.get_system_info()).server_info.start_time or 0.0)

    def connected(self) -> set[str]:
        """Return the names of the sites that are connected."""
        return {one.name for one in self._call(lambda session: session.get_system_info()).client_info}

    def at_work(self) -> set[str]:
        """Return the connected sites at which any job still runs."""
        try:
            told = self._call(lambda session: session.get_client_job_status()) or []
        except api_spec.NoClientsAvailable:
            return set()
        busy = [one for one in told if isinstance(one, Mapping) and one.get("job_id")]
        return {str(one.get("client_name")) for one in busy}

    def download(self, job_id: str, out: Path) -> Path:
        """Download what the server holds of a job that has ended, and return the folder."""
        return Path(self._call(lambda session: session.download_job_result(job_id, str(out)), DOWNLOAD_S))

    def close(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            try:
                _within(ANSWER_S, session.close)
            except Exception as error:
                logger.debug("the session did not close well: %r", error)

    def _call(self, ask: Callable[[Session], Answer], seconds: float = ANSWER_S) -> Answer:
        try:
            if self._session is None:
                with contextlib.redirect_stdout(io.StringIO()):  # it prints that it connects
                    self._session = _within(ANSWER_S, self._opened)
            session = self._session
            return _within(seconds, lambda: ask(session))
        except api_spec.AuthenticationError as error:
            self.close()
            raise LeadError(
                f"the server does not take the kit {self.kit} ({error}): it is of another project, or its certificate "
                "has expired or was revoked; ask whoever provisioned the federation"
            ) from error
        except _AWAY as error:
            self.close()
            raise ServerAwayError(
                f"no answer from the server that the kit {self.kit} names ({error}): is it started, and do its ports "
                "let this machine in?"
            ) from error

    def _opened(self) -> Session:
        try:
            return new_secure_session(self.name, str(self.kit), timeout=self._connect_s, auto_login_max_tries=1)
        except TypeError as error:  # NVFlare reads a certificate that the answer of a starting server does not hold
            raise api_spec.NoConnection(f"it answered without its certificate: {error}") from error


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Return an answer, or give up on it; what hangs then hangs alone, in a thread that holds nobody up.

    Raises:
        TimeoutError: it took longer. Whatever ``ask`` raises.
    """
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def answer() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=answer, name="sitelora_lead", daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return answers[0]


def _name_in(kit: Path) -> str:
    """Return whose kit it is.

    Raises:
        LeadError: it is none of a person.
    """
    file = kit / "startup" / "fed_admin.json"
    try:
        admin = json.loads(file.read_bytes())["admin"]
        return str(admin.get("username") or kit.name)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        of_other = (kit / "startup" / "fed_client.json").is_file() or (kit / "startup" / "fed_server.json").is_file()
        whose = "the kit of a site or a server" if of_other else "no startup kit"
        raise LeadError(
            f"{kit} is {whose}; expected the kit of a lead or an administrator, the folder that holds startup/"
            "fed_admin.json"
        ) from error
