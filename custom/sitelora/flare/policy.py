"""A site's own last word: runs after every filter of a job, on what is about to be sent.

NVFlare 2.9 runs the scope filters of ``privacy.json`` before a job's filters (and not at all in its simulator), so
a filter there cannot be last. A component of ``privacy.json`` can: it is the last to hear that the filters are
done, holds the very answer that is sent next, and no job can remove it.
"""

from __future__ import annotations

import logging

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FilterKey, FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from torch import Tensor

from sitelora.federation.events import EventLog
from sitelora.federation.identity import site_secret
from sitelora.federation.packets import privatise
from sitelora.federation.run_folder import POLICY
from sitelora.flare.filters import context_of, packet_of, site_folder_of_run
from sitelora.flare.place import Place
from sitelora.flare.protocol import Ticket, error_shareable
from sitelora.sharing.wire import EgressError, Packet, WireFormat, allow_only_shared, audit

logger = logging.getLogger(__name__)


class SitePolicy(FLComponent):
    """Enforces a site's own rules on every answer, whatever the job says; goes into ``local/privacy.json``.

    It fails closed: an answer that is no SiteLoRA packet, or that breaks a rule, is emptied and replaced by the
    reason. What passes is logged in ``<home>/<federation>/<uid>/<site>/policy.jsonl``, as in the audit log.

    Args:
        bundles: names of installed bundles; only what one of them shares may leave. None leaves it to the job.
        clip_norm: largest L2 norm of an update. noise_std: in units of ``clip_norm``, from the site's secret.
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
        except Exception as error:
            name = fl_ctx.get_identity_name()
            logger.exception("site %s: its own policy kept an answer back", name)
            answer.clear()
            answer.update(error_shareable(None, f"{name}: the site's own policy kept its answer back: {error}"))

    def _enforce(self, answer: Shareable, fl_ctx: FLContext) -> None:
        dxo = packet_of(answer)
        if dxo is None or not dxo.data:
            return
        ticket, place = Ticket.read(dxo.meta), Place.of(fl_ctx)
        context = context_of(ticket, place)
        self._allow(dxo.data)
        if self.clip_norm is not None:
            private = privatise(
                {name: tensor.float() for name, tensor in dxo.data.items()},
                self._wire,
                site_secret(place.home),
                by="policy",
                **context,
            )
            dxo.data = {name: tensor.to(dxo.data[name].dtype) for name, tensor in private.items()}
            dxo.update_shareable(answer)
        folder = site_folder_of_run(ticket, place)
        leaving: dict[str, Tensor] = audit(dxo.data, folder / POLICY, **context)
        EventLog(folder, place.name).write("policy", round=ticket.round_number, tensors=len(leaving))

    def _allow(self, packet: Packet) -> None:
        from sitelora.federation.bundle_config import load_method  # MONAI takes a second to import

        refusals = []
        for bundle in self.bundles or ():
            method = load_method(bundle)
            try:
                allow_only_shared(packet, method.share, method.program.companions)
                return
            except EgressError as error:
                refusals.append(f"{bundle}: {error}")
        if self.bundles is not None:
            raise EgressError("; ".join(refusals) or "no bundle is allowed to send anything")
