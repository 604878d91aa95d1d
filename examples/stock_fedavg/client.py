"""One site of the toy federation: NVFlare's Client API, nothing of SiteLoRA."""

from __future__ import annotations

import nvflare.client as flare
import torch
from toy import CASES, ToyLoRA, train


def main() -> None:
    """Receive, train, send, until the server has enough."""
    torch.set_num_threads(1)
    flare.init()
    site = flare.get_site_name()
    model = ToyLoRA()
    while flare.is_running():
        received = flare.receive()
        model.load_state_dict({name: torch.as_tensor(value) for name, value in received.params.items()})
        loss = train(model, site)
        flare.send(
            flare.FLModel(
                params={name: value.detach().cpu() for name, value in model.state_dict().items()},
                metrics={"loss": loss},
                meta={"NUM_STEPS_CURRENT_ROUND": CASES[site]},
            )
        )


if __name__ == "__main__":
    main()
