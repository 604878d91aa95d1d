"""One site of the toy federation: NVFlare's Client API, nothing of SiteLoRA. With ``--dual`` it has two adapters.

It sends its whole model. Of two adapters the job's filter lets the global one out, and the local one lives here from
round to round.
"""

from __future__ import annotations

import argparse

import nvflare.client as flare
import torch
from toy import CASES, ToyDualLoRA, ToyLoRA, train


def main() -> None:
    """Receive, train, send, until the server has enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dual", action="store_true", help="a global and a local adapter")
    args = parser.parse_args()
    torch.set_num_threads(1)
    flare.init()
    site = flare.get_site_name()
    model = ToyDualLoRA() if args.dual else ToyLoRA()
    while flare.is_running():
        received = flare.receive()
        shared = {name: torch.as_tensor(value) for name, value in received.params.items() if ".local." not in name}
        model.load_state_dict(shared, strict=not args.dual)
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
