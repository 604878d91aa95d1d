"""What crosses a site's border: messages come in and are read strictly, answers go out through the exit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sitelora.federation.files import saying, write_json
from sitelora.federation.identity import BEGIN_ROUND, site_secret
from sitelora.federation.packets import DeltaLimits, Received, unpack_message
from sitelora.federation.reports import BEGIN, SCORES, TRAINED, state_hmac
from sitelora.federation.run_folder import AUDIT, INITIAL
from sitelora.federation.site_settings import Answer, SiteSettings
from sitelora.federation.state import StoredRound
from sitelora.method import Method
from sitelora.server.types import sends_base_delta
from sitelora.sharing.audit import AuditLog
from sitelora.sharing.codecs import Codecs, codecs_down, codecs_up, initial_codecs
from sitelora.sharing.exit import Exit
from sitelora.sharing.layout import layout_of
from sitelora.sharing.ledger import Ledger, ledger_file
from sitelora.sharing.schema import Schema
from sitelora.sharing.wire import Packet, packet_sha256

ANY_ROUND = 10**9


class Border:
    """Where one site's tensors and reports come in and go out.

    Args:
        settings: of the site. method: as installed there. folder: of the site in this run.
        initial: seeded initial values of all trained tensors of its network. shared: names of those that are shared.
    """

    def __init__(
        self,
        *,
        settings: SiteSettings,
        method: Method,
        folder: Path,
        initial: Mapping[str, Tensor],
        shared: tuple[str, ...],
    ) -> None:
        self._settings, self._method, self._folder = settings, method, folder
        self._trained = initial
        self._initial = {name: initial[name].detach().to("cpu").float() for name in shared}
        secret = site_secret(settings.home)
        self.exit = Exit(
            site=settings.site,
            share=method.share,
            companions=method.program.companions,
            shared=layout_of(self._initial),
            initial_sha256=packet_sha256(self._initial),
            wire=settings.wire,
            secret=secret,
            log=AuditLog(path=folder / AUDIT, secret=secret),
            bounds=settings.bounds,
            ledger=Ledger(
                path=ledger_file(settings.home, settings.site),
                secret=secret,
                dataset=settings.dataset,
                largest=settings.bounds.max_epsilon,
            ),
        )

    def read(self, packet: Packet, reader: str, *, before: int = ANY_ROUND) -> Received:
        """Return a message at the network's full rank.

        Args:
            packet: as it came. reader: whose message it is: this site's name, or ``ANY_SITE``.
            before: base deltas in it come from rounds before this one.

        Raises:
            PacketError: it is not what the method declares.
        """
        codecs = codecs_down(self._method.ranks, self._settings.wire, reader)
        limits = None
        if sends_base_delta(self._method.server):
            limits = DeltaLimits(adapters=self._adapters(), before=before)
        return unpack_message(packet, self.exit.shared, self.exit.companions, codecs, limits=limits)

    def begin(self, report: Mapping[str, Any]) -> Answer:
        """Let the seeded initial values out, and note what they look like on the wire."""
        codecs = initial_codecs(self._settings.wire)
        answer = self._leave(self._initial, report, BEGIN, BEGIN_ROUND, codecs, sent=tuple(self._initial))
        write_json(self._folder / INITIAL, {"packet_sha256": packet_sha256(answer.tensors)})
        return answer

    def round(self, number: int, tensors: Packet, stored: StoredRound, *, seconds: float, resent: bool) -> Answer:
        """Let a finished round out; when it is sent again it takes the same way.

        Args:
            number: of the round. tensors: fp32, at the network's rank. stored: as it was written.
            seconds: that it took. resent: whether it had been sent before.
        """
        report = {
            **stored.manifest["report"],
            "seconds": seconds,
            "state_hmac": state_hmac(self.exit.secret, stored.manifest["state_sha256"], **self._context(number)),
            **({"resent": True} if resent else {}),
        }
        codecs = codecs_up(self._method.ranks, self._settings.wire, self._settings.site)
        sent = self._method.sent_in(number, tuple(self._initial))
        return self._leave(tensors, report, TRAINED, number, codecs, sent=sent, with_sets=True)

    def scores(self, number: int, report: Mapping[str, Any]) -> Answer:
        """Let the scores of an evaluation out: numbers, and no tensor.

        Args:
            number: of rounds before it. report: from ``to_columns``, with the seconds it took.
        """
        return self._leave({}, report, SCORES, number, ())

    def _leave(
        self,
        tensors: Packet,
        report: Mapping[str, Any],
        schema: Schema,
        number: int,
        codecs: Codecs,
        *,
        sent: tuple[str, ...] = (),
        with_sets: bool = False,
    ) -> Answer:
        context = self._context(number)
        try:
            left = self.exit(tensors, report, sent=sent, with_sets=with_sets, codecs=codecs, schema=schema, **context)
        except OSError as error:  # of the log or the ledger, so nothing has left
            with saying(Path(error.filename or self._folder / AUDIT)):
                raise
        return Answer(*left)

    def _context(self, number: int) -> dict[str, object]:
        """Return what names an answer in the audit log and derives its noise."""
        settings = self._settings
        return {"federation": settings.federation, "uid": settings.uid, "site": settings.site, "round": number}

    def _adapters(self) -> dict[str, tuple[int, int, int | None]]:
        """Return ``(d_out, d_in, largest rank of a base delta)`` of every pair: K sites stack K ranks at most."""
        sites = self._settings.sites
        return {
            name[:-2]: (b.shape[0], self._trained[f"{name[:-2]}.A"].shape[1], sites * b.shape[1] if sites else None)
            for name, b in self._trained.items()
            if name.endswith(".B") and f"{name[:-2]}.A" in self._trained
        }
