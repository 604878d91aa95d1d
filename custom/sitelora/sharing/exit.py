"""The way out, run by the site itself: report schema, allow-list, clip and noise, codecs, bounds, budget, audit.

In-process, under NVFlare and when a stored update is sent again it is the same function, from the bundle that is
installed at the site; no job can leave a step out. It fails closed: what is not exactly the declared answer is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sitelora.sharing.accounting import Releases
from sitelora.sharing.audit import AuditLog
from sitelora.sharing.bounds import ExitBounds, packet_sets
from sitelora.sharing.codecs import Codecs, encode, encoded_layout, growth, values_of
from sitelora.sharing.layout import Layout, check_packet, with_companions
from sitelora.sharing.ledger import Ledger
from sitelora.sharing.noise import SecretNoise, add_noise
from sitelora.sharing.rule import ShareRule
from sitelora.sharing.schema import Schema
from sitelora.sharing.wire import (
    EgressError,
    Packet,
    PacketError,
    WireFormat,
    allow_only_shared,
    clip,
    packet_sha256,
)


@dataclass(frozen=True, kw_only=True)
class Exit:
    """What one site lets out.

    Args:
        site: its name.
        share: the method's share rule, for the words of a refusal. companions: the method's companion sets.
        shared: layout of the shared tensors of the site's own network, in fp32 and at the network's rank.
        initial_sha256: of the site's own seeded initial values: they hold no data, so nothing else is exempt from clip
            and noise.
        wire: clip and noise. secret: the site's own, for noise that nobody else can take off.
        log: the site's audit log. bounds: of the site's own policy.
        ledger: of what it has spent of its privacy, with its budget; None keeps no account.
    """

    site: str
    share: ShareRule
    companions: tuple[str, ...]
    shared: Layout
    initial_sha256: str
    wire: WireFormat
    secret: bytes
    log: AuditLog
    bounds: ExitBounds = field(default_factory=ExitBounds)
    ledger: Ledger | None = None

    def __call__(
        self,
        packet: Packet,
        report: Mapping[str, Any],
        *,
        sent: Collection[str],
        with_sets: bool,
        codecs: Codecs,
        schema: Schema,
        **context: object,
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the packet and the report that leave, after the packet has been logged.

        Args:
            packet: fp32 tensors, as they are at the site.
            sent: names of the shared tensors that this answer consists of, all of them.
            with_sets: whether every companion set belongs to it.
            codecs: how it travels. schema: of the report.
            context: what the log says beside each tensor; the noise follows from it.

        Raises:
            EgressError: the packet is not exactly that.
            SchemaError: the report holds something else than its schema says.
            BoundError: the answer is beyond what the site's own policy allows.
            EpsilonSpentError: with it the site would pass its budget.
        """
        said = schema.read(report, sender=self.site)
        layout = with_companions({name: self.shared[name] for name in sent}, self.companions if with_sets else ())
        self._allow(packet, layout)
        private = privatise(packet, self.wire, self.secret, initial_sha256=self.initial_sha256, **context)
        leaving = encode(private, codecs)
        self._require(leaving, encoded_layout(layout, codecs))
        initial = packet_sha256(private) == self.initial_sha256
        read, answers = self._read(leaving, codecs), self.log.answers
        # Exactly before it was rounded, so that a job's rounding loosens no bound; and as it will be read.
        for values, longer in ((private, 0.0), (read, growth(codecs))):
            noise = self.wire.absolute_noise
            self.bounds.require(leaving, values, initial=initial, answers=answers, noise=noise, growth=longer)
        if self.ledger is not None and leaving and not initial:
            releases = Releases(noise_multiplier=self.wire.noise_std, count=len(packet_sets(leaving)))
            self.ledger.note(releases, sha256=packet_sha256(leaving), **context)
        self.log.write(leaving, read, **context)
        return leaving, said

    def require_budget(self, round_number: int) -> None:
        """Refuse a round that the site could not answer for within its budget, before it is trained.

        Raises:
            EpsilonSpentError: its answer would pass the site's epsilon.
        """
        if self.ledger is not None and self.shared:
            count = 1 + len(self.companions)
            self.ledger.require(Releases(noise_multiplier=self.wire.noise_std, count=count), round_number=round_number)

    def _allow(self, packet: Packet, layout: Layout) -> None:
        allow_only_shared(packet, self.share, self.companions)
        self._require(packet, layout)

    def _require(self, packet: Packet, layout: Layout) -> None:
        try:
            check_packet(packet, layout, sender=self.site)
        except PacketError as error:
            raise EgressError(f"nothing left: {error}; only what the installed method declares may leave") from None

    def _read(self, leaving: Packet, codecs: Codecs) -> dict[str, Tensor]:
        """Return what a receiver will read of it: whole numbers say nothing of a norm."""
        try:
            return values_of(leaving, codecs, sender=self.site)
        except PacketError as error:
            raise EgressError(f"nothing left: {error}; no receiver could read it") from None


def privatise(
    packet: Packet, wire: WireFormat, secret: bytes, *, initial_sha256: str | None, **context: object
) -> dict[str, Tensor]:
    """Clip and add noise where the wire format asks for it; weights and every companion set apart.

    The noise follows from the secret, the context and the values themselves: sending the same update again reveals
    nothing more, and two updates of one round never carry equal noise, which their difference would cancel.

    With noise on one factor of a pair, A leaves as it was received: its difference is put to zero first, so that B has
    the whole of the clip norm.

    Args:
        initial_sha256: of the seeded initial values, which stay as they are; None exempts nothing.
    """
    if wire.clip_norm is None or packet_sha256(packet) == initial_sha256:
        return dict(packet)
    parts = tuple(context[key] for key in sorted(context))
    still = wire.still(packet)
    packet = {name: torch.zeros_like(value) if name in still else value for name, value in packet.items()}
    private: dict[str, Tensor] = {}
    for companion, values in packet_sets(packet).items():
        clipped = clip(values, wire.clip_norm)
        if wire.noise_std:
            named = (companion,) if companion else ()
            noise = SecretNoise(secret, *parts, *named, packet_sha256(clipped))
            moving = {name: value for name, value in clipped.items() if name not in still}
            clipped = {**clipped, **add_noise(moving, wire.absolute_noise, noise)}
        private.update(clipped)
    return private
