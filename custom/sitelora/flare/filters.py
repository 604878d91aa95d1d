"""The way out of a site as NVFlare filters, in this order: allow-list, clip and noise, cast, audit.

Each wraps one function that the in-process federation calls too, so both send the same bytes. A filter that
raises stops the answer: NVFlare 2.9 then sends a return code and no data. It applies a site's own scope filters
(``privacy.json``) *before* a job's, and none at all in the simulator; what must come last is in ``policy.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from torch import Tensor

from sitelora.federation.events import EventLog
from sitelora.federation.identity import site_secret
from sitelora.federation.packets import privatise
from sitelora.federation.run_folder import AUDIT, RunFolder
from sitelora.flare.place import Place
from sitelora.flare.protocol import Ticket
from sitelora.sharing.wire import EgressError, WireFormat, allow_only_shared, audit, cast, packet_bytes

_DXO = "DXO"
_PLAIN = (str, int, float, bool, type(None))


class PacketFilter(Filter):
    """Applies a function to the packet of an answer; whatever it does not understand does not leave."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Filter an answer on its way out.

        Raises:
            EgressError: it holds anything beside one packet of tensors, numbers and names.
        """
        dxo = packet_of(shareable)
        if dxo is None or not dxo.data:
            return shareable
        dxo.data = self.filtered(dxo.data, Ticket.read(dxo.meta), Place.of(fl_ctx))
        dxo.add_filter_history(type(self).__name__)
        result: Shareable = dxo.update_shareable(shareable)
        return result

    def filtered(self, packet: Mapping[str, Tensor], ticket: Ticket, place: Place) -> dict[str, Tensor]:
        """Return the packet that goes on; every filter says it in its own words."""
        raise TypeError(f"{type(self).__name__} does not say what it lets through")


class AllowListFilter(PacketFilter):
    """Lets shared tensors through and nothing else; fails closed.

    Args:
        bundle: name of the bundle that is installed here; its method says what is shared.
        overrides: bundle values that the job sets.
    """

    def __init__(self, *, bundle: str, overrides: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.bundle = bundle
        self.overrides = overrides

    def filtered(self, packet: Mapping[str, Tensor], ticket: Ticket, place: Place) -> dict[str, Tensor]:
        """Return the packet as it is."""
        from sitelora.federation.bundle_config import load_method  # MONAI takes a second to import

        method = load_method(self.bundle, self.overrides)
        return allow_only_shared(packet, method.share, method.program.companions)


class PrivacyFilter(PacketFilter):
    """Clips a whole update to a norm and adds noise from the site's own secret.

    Args:
        clip_norm: largest L2 norm of the update. noise_std: in units of ``clip_norm``.
    """

    def __init__(self, *, clip_norm: float | None = None, noise_std: float = 0.0) -> None:
        super().__init__()
        WireFormat(clip_norm=clip_norm, noise_std=noise_std)
        self.clip_norm = clip_norm
        self.noise_std = noise_std

    def filtered(self, packet: Mapping[str, Tensor], ticket: Ticket, place: Place) -> dict[str, Tensor]:
        """Return the clipped and noised packet; initial values stay as they are."""
        wire = WireFormat(clip_norm=self.clip_norm, noise_std=self.noise_std)
        return privatise(packet, wire, site_secret(place.home), **context_of(ticket, place))


class CastFilter(PacketFilter):
    """Casts values for the wire.

    Args:
        dtype: "bfloat16" or "float32".
    """

    _always_serialize_args = ("dtype",)

    def __init__(self, *, dtype: str = "bfloat16") -> None:
        super().__init__()
        WireFormat(dtype=dtype)
        self.dtype = dtype

    def filtered(self, packet: Mapping[str, Tensor], ticket: Ticket, place: Place) -> dict[str, Tensor]:
        """Return the packet in the wire's dtype."""
        return cast(packet, WireFormat(dtype=self.dtype).torch_dtype)


class AuditFilter(PacketFilter):
    """Logs every tensor that leaves in ``<home>/<federation>/<uid>/<site>/audit.jsonl``, which stays at the site."""

    def filtered(self, packet: Mapping[str, Tensor], ticket: Ticket, place: Place) -> dict[str, Tensor]:
        """Return the packet as it is."""
        folder = site_folder_of_run(ticket, place)
        leaving = audit(packet, folder / AUDIT, **context_of(ticket, place))
        EventLog(folder, place.name).write(
            "left", round=ticket.round_number, tensors=len(leaving), bytes=packet_bytes(leaving)
        )
        return leaving


def packet_of(shareable: Shareable) -> DXO | None:
    """Return the one data object of an answer, or None if it holds no data at all.

    Raises:
        EgressError: data that is no packet: another kind, an array, raw bytes, a tensor outside the packet.
    """
    if shareable.get_return_code() != ReturnCode.OK or _DXO not in shareable:
        found = [key for key in shareable if key != ReservedHeaderKey.HEADERS]
        if found:
            raise EgressError(f"nothing left: an answer without a packet holds {found}")
        return None
    dxo = from_shareable(shareable)
    if dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
        raise EgressError(f"nothing left: an answer of kind {dxo.data_kind}, expected a packet of tensors")
    wrong = [f"{name}: {type(value).__name__}" for name, value in dxo.data.items() if not isinstance(value, Tensor)]
    others = {key: value for key, value in shareable.items() if key != _DXO}
    wrong += [*strange_values(others, "answer"), *strange_values(dxo.meta, "meta")]
    if wrong:
        raise EgressError(
            f"nothing left: {'; '.join(wrong[:3])}; an answer holds one packet of tensors beside numbers and names"
        )
    return dxo


def strange_values(value: object, where: str) -> Iterator[str]:
    """Yield what is neither number nor text within nested mappings and lists, by place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strange_values(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from strange_values(inner, f"{where}[{number}]")
    elif not isinstance(value, _PLAIN):
        yield f"{where}: {type(value).__name__}"


def context_of(ticket: Ticket, place: Place) -> dict[str, object]:
    """Return what names an update in the audit log and derives its noise; as the in-process federation has it."""
    return {
        "federation": ticket.federation,
        "uid": ticket.uid,
        "site": place.name,
        "round": ticket.round_number,
    }


def site_folder_of_run(ticket: Ticket, place: Place) -> Path:
    """Return this site's folder of a run."""
    return RunFolder.of(place.home, ticket.federation, ticket.uid).site(place.name)
