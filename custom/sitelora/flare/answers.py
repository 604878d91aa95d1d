"""What an answer in NVFlare's form may hold when it leaves a site: one packet beside numbers and short texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from torch import Tensor

from sitelora.federation.ticket import Ticket
from sitelora.flare.site_config import SiteConfig
from sitelora.sharing.wire import EgressError

_DXO = "DXO"
_CODES = {value for name, value in vars(ReturnCode).items() if not name.startswith("_")}
_PLAIN = (int, float, bool, type(None))
_LONGEST, _DEEPEST = 1000, 6
"""Characters of a text, and levels of what is nested: NVFlare's own envelope needs no more."""


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


def known_code(shareable: Shareable) -> str:
    """Return the return code of an answer without a packet.

    Raises:
        EgressError: it is none of NVFlare's.
    """
    code = shareable.get_return_code()
    if code not in _CODES:
        raise EgressError(f"nothing left: a return code that NVFlare does not have, {code!r:.40}")
    return str(code)


def ticket_of(meta: Mapping[str, object]) -> Ticket | None:
    """Return which task an error answers; None where it says none that is one."""
    try:
        return Ticket.read(meta)
    except ValueError:
        return None


def replace_by(answer: Shareable, other: Shareable) -> None:
    """Put another answer in the place of one, the same object: NVFlare sets its own headers after this."""
    answer.clear()
    answer.update(other)


def strange_values(value: object, where: str, *, depth: int = 0) -> Iterator[str]:
    """Yield what is neither number nor short text within nested mappings and lists, by place."""
    if isinstance(value, Mapping | list | tuple) and depth >= _DEEPEST:
        yield f"{where}: nested deeper than {_DEEPEST} levels"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str | int) or len(str(key)) > _LONGEST:
                yield f"{where}: a key that is no short text"
            yield from strange_values(inner, f"{where}.{key!s:.40}", depth=depth + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from strange_values(inner, f"{where}[{number}]", depth=depth + 1)
    elif isinstance(value, str):
        if len(value) > _LONGEST:
            yield f"{where}: a text of {len(value)} characters"
    elif not isinstance(value, _PLAIN):
        yield f"{where}: {type(value).__name__}"


def context_of(ticket: Ticket, own: SiteConfig) -> dict[str, object]:
    """Return what names an answer in a log of the site and derives its noise; as the site's own exit has it."""
    return {
        "federation": ticket.federation,
        "uid": ticket.uid,
        "site": own.name,
        "round": ticket.round_number,
    }


def site_folder_of_run(ticket: Ticket, own: SiteConfig) -> Path:
    """Return this site's folder of a run."""
    return own.home / ticket.federation / ticket.uid / own.name
