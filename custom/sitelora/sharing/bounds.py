"""What a site's own policy bounds of an answer, judged at its exit on what is about to leave, before it is logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sitelora.sharing.accounting import noise_norm
from sitelora.sharing.wire import EgressError, Packet, global_norm, packet_bytes

_FP32 = 1e-6
"""Share by which a norm may miss what it was clipped to, in fp32: a job's clip norm may be the site's own bound."""


class BoundError(EgressError):
    """An answer is beyond what the site's own policy allows."""

    code = "policy_refused"


@dataclass(frozen=True, kw_only=True)
class ExitBounds:
    """The largest answers of one site; None bounds nothing.

    Args:
        largest_norm: L2 norm of an update, of its values and never of the whole numbers that stand for them, and of
            each set of companion tensors by itself. The site's own initial values are no update and have none; the
            noise that a job asks for has room beside it.
        most_bytes: of the tensors of an answer. most_answers: that leave in a run, with tensors or without.
        max_epsilon: of everything that leaves and was made of one data set, whatever the run; the ledger holds it.
    """

    largest_norm: float | None = None
    most_bytes: int | None = None
    most_answers: int | None = None
    max_epsilon: float | None = None

    def require(
        self,
        leaving: Packet,
        values: Packet,
        *,
        initial: bool,
        answers: int,
        noise: float = 0.0,
        growth: float = 0.0,
    ) -> None:
        """Refuse an answer that is beyond them.

        Args:
            leaving: as it travels. values: those of it, before it was rounded or as a receiver reads them.
            initial: whether it is the site's own initial values. answers: that left before.
            noise: standard deviation of what was added to every value. growth: share of the norm that rounding may add.

        Raises:
            BoundError: says which bound, what was found and what is allowed.
        """
        if self.most_answers is not None and answers >= self.most_answers:
            raise BoundError(
                f"nothing left: most_answers: {answers} answers of this run have left, allowed are {self.most_answers}"
            )
        size = packet_bytes(leaving)
        if self.most_bytes is not None and size > self.most_bytes:
            raise BoundError(f"nothing left: most_bytes: the answer has {size} bytes, allowed are {self.most_bytes}")
        if self.largest_norm is None or initial:
            return
        for companion, tensors in packet_sets(values).items():
            norm = global_norm(tensors)
            room = noise_norm(noise, sum(tensor.numel() for tensor in tensors.values()))
            if not norm <= (self.largest_norm + room) * (1 + growth + _FP32):
                what = f"the norm of {companion or 'the update'} is {norm:.4g}"
                beside = f" and {room:.4g} of noise" if room else ""
                raise BoundError(f"nothing left: largest_norm: {what}, allowed is {self.largest_norm:g}{beside}")


def packet_sets(packet: Packet) -> Mapping[str, dict[str, Tensor]]:
    """Return the packet's sets by companion; the weights have the name ``""``.

    One norm over all would scale the weights by the size of the companions (SCAFFOLD's controls are gradients).
    """
    sets: dict[str, dict[str, Tensor]] = {}
    for name, tensor in packet.items():
        companion = name[1:].partition("/")[0] if name.startswith("@") else ""
        sets.setdefault(companion, {})[name] = tensor
    return sets
