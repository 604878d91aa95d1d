"""A follower: one of the further processes in which a site trains its rounds (``lockstep.py``).

Its one argument is the number of the socket that it was given. It takes one frame that says which site it is one of,
in exactly the keys of ``KEYS``, then a frame a round, and answers each. It builds the site by the class that the site's
own process uses, with every refusal of that, and asks it for nothing but the trainer: nothing is written or kept.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sitelora.federation.frames import WorkerGone, receive, send
from sitelora.late_imports import import_late

if TYPE_CHECKING:
    from sitelora.federation.site import Site

KEYS = (
    *("site", "federation", "uid", "bundle", "dataset", "data", "home", "overrides", "site_values", "own_methods"),
    *("bases", "wire", "rank", "count"),
)
GROUPS = ("received", "companions", "state")


class FollowerError(ValueError):
    """What was said is nothing that a site says."""


def built(words: dict[str, Any], connection: socket.socket) -> Site:
    """Return the site whose trainer this process has, in lockstep over the connection.

    Raises:
        FollowerError: other keys. SiteError, SettingsError, ...: as of a site.
    """
    from sitelora.federation.exchange import Following
    from sitelora.federation.site import Site
    from sitelora.federation.site_settings import SiteSettings
    from sitelora.federation.together import Together
    from sitelora.sharing.wire import WireFormat

    if sorted(words) != sorted(KEYS):
        raise FollowerError(f"found {sorted(words)}, expected {', '.join(KEYS)}")
    own, rank, count = dict(words), int(words["rank"]), int(words["count"])
    del own["rank"], own["count"]
    methods = own.pop("own_methods")
    paths = {key: Path(own.pop(key)) for key in ("data", "home")}
    site = Site(
        SiteSettings(
            **{**own, **paths, "wire": WireFormat(**own["wire"])},
            own_methods=None if methods is None else tuple(methods),
        )
    )
    group = Following(connection)
    site.together = Together(rank=rank, count=count, group=group, device=next(site.network.parameters()).device)
    site.local_round  # noqa: B018 - built at first use
    return site


def follow(site: Site, words: dict[str, Any], data: bytes) -> str:
    """Do one round beside the site's own process; return the hash of what came of it."""
    from sitelora.federation.lockstep import digest
    from sitelora.federation.state import SiteState
    from sitelora.sharing.sealed import unseal

    groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for key, tensor in unseal(data).items():
        group, _, name = key.partition("/")
        groups[group][name] = tensor
    rounds, steps = list(words["delta_rounds"]), int(words["steps"])
    state = SiteState.from_tensors(groups["state"], delta_rounds=rounds, steps=steps, served_as={})
    received, companions = groups["received"], groups["companions"]
    return digest(site.local_round.run(int(words["round"]), received=received, companions=companions, state=state))


def serve(connection: socket.socket) -> None:
    """Follow for as long as the site speaks; what goes wrong is said to it, and is this process's end."""
    from sitelora.federation.refusals import code_of, readable

    try:
        words, _ = receive(connection)
        site = built(words, connection)
        send(connection, {"ready": True})
        while True:
            words, data = receive(connection)
            send(connection, {"trained": follow(site, words, data)})
    except WorkerGone:
        return
    except Exception as error:
        send(connection, {"error": readable(error), "code": code_of(error)})


def _end_with_site() -> None:
    """Wait for the end of the site's process, however it comes, and end with it."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Follow the site at the other end of the socket whose number is the argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the site, with which this ends
    threading.Thread(target=_end_with_site, name="sitelora_site", daemon=True).start()
    import_late()
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
