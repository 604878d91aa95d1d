"""What controller and executor say to each other beside tensors: tasks, who and which round, reports, errors.

A packet travels as the ``params`` of an NVFlare ``FLModel`` and nothing else does; identifiers, reports and error
codes are in its ``meta``. Both ends read strictly: names that become paths are checked where they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

import sitelora
from sitelora.federation.identity import BEGIN_ROUND
from sitelora.federation.refusals import UNLISTED, sentence
from sitelora.federation.ticket import ProtocolError, Ticket

if TYPE_CHECKING:  # torch, which a process that only passes tensors on has no use for
    from torch import Tensor


class VersionError(ProtocolError):
    """The server and the site have different versions."""

    code = "version_differs"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back from a site: a packet and a report, or an error.

    Attributes:
        site: the name that NVFlare knows it by, never one that it claims.
        error: why there is none, in words; empty where there is one. code: what the site said of it, if anything.
    """

    site: str
    packet: dict[str, Tensor] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    code: str = ""


def task_model(ticket: Ticket, packet: Mapping[str, Tensor]) -> FLModel:
    """Return a task for one site, with the version that it needs."""
    meta = {**ticket.meta(), "version": sitelora.__version__}
    return FLModel(
        params_type=ParamsType.FULL,
        params=dict(packet),
        current_round=max(ticket.round_number, 0),
        meta=meta,
    )


def read_task(shareable: Shareable) -> tuple[Ticket, dict[str, Tensor]]:
    """Return what a task says, at the site.

    Raises:
        ProtocolError: no SiteLoRA task. VersionError: one of another version.
    """
    model = FLModelUtils.from_shareable(shareable)
    ticket = Ticket.read(model.meta)
    wanted = model.meta.get("version")
    if wanted != sitelora.__version__:
        raise VersionError(
            f"the server runs SiteLoRA {wanted}, this site has {sitelora.__version__} "
            f"({sitelora.__file__}); install the same version at both"
        )
    return ticket, dict(model.params or {})


def reply_shareable(ticket: Ticket, packet: Mapping[str, Tensor], report: Mapping[str, Any]) -> Shareable:
    """Return a site's answer as it left the site's exit."""
    kind = ParamsType.FULL if ticket.round_number == BEGIN_ROUND else ParamsType.DIFF
    meta = {**ticket.meta(), "report": dict(report)}
    return FLModelUtils.to_shareable(FLModel(params_type=kind, params=dict(packet), meta=meta))


def error_shareable(ticket: Ticket | None, code: str) -> Shareable:
    """Return an answer that says why there is none, as a code of ``refusals.REMEDIES``; no text leaves a site."""
    meta = {**(ticket.meta() if ticket else {}), "error": code}
    return FLModelUtils.to_shareable(FLModel(params_type=ParamsType.DIFF, params={}, meta=meta))


def read_reply(site: str, ticket: Ticket, model: FLModel) -> Reply:
    """Return what a site answered, at the server; whatever is wrong with it becomes its error."""
    meta = model.meta if isinstance(model.meta, dict) else {}
    if "error" in meta:
        code = meta["error"] if isinstance(meta["error"], str) else UNLISTED
        return Reply(site=site, error=sentence(site, code), code=code)
    try:
        found = Ticket.read(meta)
    except ProtocolError:
        return Reply(site=site, error=sentence(site, UNLISTED))
    report = meta.get("report")
    if found != ticket or not isinstance(report, dict) or not isinstance(model.params, dict):
        what = f"a packet and a report for round {ticket.round_number}"
        return Reply(site=site, error=f"{site}: answered for round {found.round_number}, expected {what} of this run")
    return Reply(site=site, packet=model.params, report=report)
