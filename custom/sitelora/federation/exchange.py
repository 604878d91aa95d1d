"""What the processes of one site say to each other while they train: as torch's groups do it, over pairs of sockets.

torch's own group over processors ends the whole process, and so the site, where one that has failed is taken down; and
it listens on a port. Adapters are small and the processes few, so here the site's process adds up and tells the sum.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sitelora.federation.frames import receive, send
from sitelora.federation.refusals import FAILED
from sitelora.federation.site_settings import SiteError

LOST = "process_lost"


class Sent:
    """What torch gives back for an exchange that is still going on; ours is done."""

    def wait(self) -> None:
        """Do nothing."""


class Leading:
    """The site's end of what the processes exchange in a step, as torch's groups do it.

    Args:
        site: its name. connections: to the followers, in their order.
    """

    def __init__(self, site: str, connections: Sequence[socket.socket]) -> None:
        self._site, self._connections = site, connections

    def allreduce(self, tensors: Sequence[Tensor]) -> Sent:
        """Put the sum over all processes into a tensor, always summed in their order."""
        total = tensors[0].detach().cpu().contiguous()
        for connection in self._connections:
            _, data = heard(self._site, connection)
            total = total + torch.frombuffer(bytearray(data), dtype=total.dtype).view(total.shape)
        self._tell(total)
        tensors[0].copy_(total)
        return Sent()

    def broadcast(self, tensor: Tensor, root: int) -> Sent:
        """Give the followers a tensor of the site's."""
        self._tell(tensor.cpu())
        return Sent()

    def _tell(self, tensor: Tensor) -> None:
        data = tensor.numpy().tobytes()
        for connection in self._connections:
            told(self._site, connection, {}, data)


class Following:
    """A follower's end of the same."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def allreduce(self, tensors: Sequence[Tensor]) -> Sent:
        """Put the sum over all processes into a tensor."""
        send(self._connection, {}, tensors[0].detach().cpu().contiguous().numpy().tobytes())
        return self.broadcast(tensors[0], 0)

    def broadcast(self, tensor: Tensor, root: int) -> Sent:
        """Take a tensor of the site's."""
        _, data = receive(self._connection)
        tensor.copy_(torch.frombuffer(bytearray(data), dtype=tensor.dtype).view(tensor.shape))
        return Sent()


def told(site: str, connection: socket.socket, words: Mapping[str, Any], data: bytes = b"") -> None:
    """Say something to a follower.

    Raises:
        SiteError: it has gone.
    """
    try:
        send(connection, words, data)
    except OSError as error:
        raise _lost(site) from error


def heard(site: str, connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Wait for what a follower says.

    Raises:
        SiteError: it has gone, says nothing, or could not go on; with its code.
    """
    try:
        words, data = receive(connection)
    except OSError as error:
        raise _lost(site) from error
    if "error" in words:
        code = str(words.get("code", FAILED))
        raise SiteError(f"site {site}, another of its processes: {words['error']}", code=code)
    return words, data


def _lost(site: str) -> SiteError:
    return SiteError(
        f"site {site}: another of its processes ended or stopped (killed, or out of memory) in the middle of a round; "
        'asked again it starts a new one, with "processes" 1 in its local/sitelora.json it needs none',
        code=LOST,
    )
