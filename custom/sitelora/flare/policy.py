"""A site's own last word: runs after the site's exit and after every filter of a job, on what is about to be sent.

NVFlare 2.9 runs the scope filters of ``privacy.json`` before a job's filters (and not at all in its simulator), so
a filter there cannot be last. A component of ``privacy.json`` can: it is the last to hear that the filters are
done, holds the very answer that is sent next, and no job can remove it.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FilterKey, FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply

from sitelora.federation.events import EventLog
from sitelora.federation.files import read_json
from sitelora.federation.identity import BEGIN_ROUND, site_secret
from sitelora.federation.refusals import REMEDIES
from sitelora.federation.reports import BEGIN, SCORES, TRAINED
from sitelora.federation.run_folder import INITIAL, POLICY
from sitelora.federation.ticket import Ticket
from sitelora.flare.answers import context_of, known_code, packet_of, replace_by, site_folder_of_run, ticket_of
from sitelora.flare.protocol import error_shareable, reply_shareable
from sitelora.flare.site_config import SiteConfig, read_job
from sitelora.sharing.audit import AuditLog
from sitelora.sharing.codecs import Codecs, codecs_up, encode, growth, initial_codecs, values_of
from sitelora.sharing.exit import privatise
from sitelora.sharing.ranks import SiteRanks
from sitelora.sharing.wire import EgressError, Packet, WireFormat, allow_only_shared, packet_sha256

logger = logging.getLogger(__name__)


class SitePolicy(FLComponent):
    """Enforces a site's own rules on every answer, whatever the job says; goes into ``local/privacy.json``.

    It fails closed: an answer that is no SiteLoRA packet, or that breaks a rule, is emptied and replaced by a code; the
    reason is in the site's log. What leaves is made anew of what was judged, so that nothing beside it does, and logged
    in ``<home>/<federation>/<uid>/<site>/policy.jsonl``, which is a chain like the audit log.

    Args:
        bundles: names of installed bundles; a job of another one is refused, and of a job only what the bundle's own
            method shares may leave. None: those of the policy in ``local/sitelora.json``, or whatever the job says
            where that names none.
        clip_norm: largest L2 norm of an update. noise_std: a multiple of ``clip_norm``, from the site's secret;
            neither counts in the site's epsilon, which is of the job's own noise, nor lowers it.
    """

    def __init__(
        self, *, bundles: list[str] | None = None, clip_norm: float | None = None, noise_std: float = 0.0
    ) -> None:
        super().__init__()
        self.bundles = bundles
        self.clip_norm = clip_norm
        self.noise_std = noise_std
        self._wire = WireFormat(clip_norm=clip_norm, noise_std=noise_std)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Have the last word on an answer; never raises, because NVFlare ignores what a handler raises."""
        if event_type != EventType.AFTER_TASK_RESULT_FILTER:
            return
        if fl_ctx.get_prop(FLContextKey.FILTER_DIRECTION) == FilterKey.IN:
            return  # a server: its own policy file, or the simulator's, which all participants share
        answer = fl_ctx.get_prop(FLContextKey.TASK_RESULT)
        try:
            self._enforce(answer, fl_ctx)
        except Exception:
            name = fl_ctx.get_identity_name()
            logger.exception("site %s: its own policy kept an answer back", name)
            replace_by(answer, error_shareable(None, "policy_refused"))

    def _enforce(self, answer: Shareable, fl_ctx: FLContext) -> None:
        """Judge an answer, and put one in its place that holds what was judged and nothing beside it."""
        dxo = packet_of(answer)
        if dxo is None:
            replace_by(answer, make_reply(known_code(answer)))
            return
        if not dxo.data and "error" in dxo.meta:
            if dxo.meta["error"] not in REMEDIES:
                raise EgressError("nothing left: an error that is no code of the public list")
            replace_by(answer, error_shareable(ticket_of(dxo.meta), dxo.meta["error"]))
            return
        ticket, own, wire = Ticket.read(dxo.meta), SiteConfig.of(fl_ctx), read_job(fl_ctx).wire
        begins = ticket.round_number == BEGIN_ROUND
        codecs = initial_codecs(wire) if begins else codecs_up(SiteRanks(), wire, own.name)
        values = values_of(dxo.data, codecs, sender=own.name)
        self._allow(values, fl_ctx, own)
        schema = BEGIN if begins else TRAINED if dxo.data else SCORES
        report = schema.read(dxo.meta.get("report"), sender=own.name)
        tensors = self._leaving(dxo.data, values, ticket, own, wire, codecs) if dxo.data else {}
        replace_by(answer, reply_shareable(ticket, tensors, report))

    def _leaving(
        self, sent: Packet, values: Packet, ticket: Ticket, own: SiteConfig, wire: WireFormat, codecs: Codecs
    ) -> Packet:
        """Return the tensors that leave, judged and logged.

        Args:
            sent: as the answer has them. values: as they will be read. ticket: of the task. own: the site.
            wire, codecs: how they travel.
        """
        context, folder = context_of(ticket, own), site_folder_of_run(ticket, own)
        secret, noted = site_secret(own.home), folder / INITIAL
        initial = noted.is_file() and read_json(noted)["packet_sha256"] == packet_sha256(sent)
        noise, longer = wire.absolute_noise, growth(codecs)
        bounds = replace(own.policy.bounds, most_answers=None)
        bounds.require(sent, values, initial=initial, answers=0, noise=noise, growth=longer)
        if not initial and self.clip_norm is not None:
            private = privatise(values, self._wire, secret, initial_sha256=None, by="policy", **context)
            sent = encode(private, codecs)
            values = values_of(sent, codecs, sender=own.name)
        AuditLog(path=folder / POLICY, secret=secret).write(sent, values, **context)
        EventLog(folder, own.name).write("policy", round=ticket.round_number, tensors=len(sent))
        return sent

    def _allow(self, packet: Packet, fl_ctx: FLContext, own: SiteConfig) -> None:
        from sitelora.federation.bundle_config import load_method  # MONAI takes a second to import

        bundles = own.policy.bundles if self.bundles is None else self.bundles
        if bundles is None:
            return
        bundle = read_job(fl_ctx).bundle
        if bundle not in bundles:
            raise EgressError(f"nothing left: a job of {bundle}; this site agreed to {', '.join(bundles) or 'none'}")
        method = load_method(bundle)
        allow_only_shared(packet, method.share, method.program.companions)
