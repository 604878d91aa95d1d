"""Which tensors make the personal, the global and the unseen-site model, and the base for comparison."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sitelora.federation.packets import Received
from sitelora.federation.state import SiteState, paired
from sitelora.method import TRAVELLING, Method, Model
from sitelora.sharing.rule import Partition

UNSEEN = "unseen"
"""The model of a site that never took part: nothing of it is fitted on anyone's cases."""


def personal_model(method: Method, shared: Mapping[str, Tensor], state: SiteState) -> Model:
    """Return a site's own model: its personal copy, or what it received with its local tensors."""
    copy = method.serving.personal_copy
    strengths = method.serving.strengths_of("personal")
    if copy == TRAVELLING:
        return Model({**shared, **state.local}, paired(state.delta), strengths)
    prefix = f"{copy}/"
    values = {n.removeprefix(prefix): t for n, t in state.copies.items() if n.startswith(prefix)}
    return Model(values, paired(state.delta), strengths)


def serve(
    method: Method,
    partition: Partition,
    *,
    received: Received,
    unseen_site: Received,
    state: SiteState,
    initial: Mapping[str, Tensor],
) -> dict[str, Model | str]:
    """Return every model by kind (base, global, personal, unseen), or why there is none.

    Args:
        received: the site's own message. unseen_site: the message for a site never seen.
        state: the site's private state. initial: seeded initial values of all trained tensors.
    """
    untouched = {name: initial[name] for name in partition.local}
    delta = paired(state.delta)
    models: dict[str, Model | str] = {
        "base": Model(dict(initial)),
        "personal": personal_model(method, received.values, state),
        "global": Model({**unseen_site.values, **untouched}, delta, method.serving.strengths_of("global")),
        UNSEEN: Model({**unseen_site.values, **untouched}, delta, method.serving.strengths_of("unseen")),
    }
    for kind in ("global", UNSEEN):
        reason = method.serving.why_not(kind, partition)
        if reason is not None:
            models[kind] = reason
    return models
