"""One site with two adapters: it sends its whole model, and the filter of the job lets the global pair out."""

from __future__ import annotations

import nvflare.client as flare
import torch
from toy import CASES, ToyDualLoRA, train


def main() -> None:
    """Receive, train both pairs, send; the local pair lives here from round to round."""
    torch.set_num_threads(1)
    flare.init()
    site = flare.get_site_name()
    model = ToyDualLoRA()
    while flare.is_running():
        received = flare.receive()
        shared = {name: torch.as_tensor(value) for name, value in received.params.items() if ".global." in name}
        model.load_state_dict(shared, strict=False)
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
