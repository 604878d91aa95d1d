"""What a linear probe reads off a pre-trained cine network: disease against none, on patients of the cine phantom.

    python benchmarks/pretrain/probe.py RUN

Logistic regression on the frozen features of the three vendors' training stacks, its strength chosen on the validation
stacks, balanced accuracy on the test stacks; the same on seeded random values says what pre-training gave.
Stacks are resampled, cropped and scaled as a cine bundle does it. Writes RUN/probe.json, which export.py tells on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from banks import ready
from pretrain_vit import network_of
from torch import Tensor

from sitelora.data.phantom.heart_make import SITES, CineSize, draw_patient
from sitelora.data.phantom.heart_vendors import VENDORS
from sitelora.networks.vit.classifier import VitClassifier

STRENGTHS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


def patients() -> dict[str, tuple[Tensor, Tensor, list[str]]]:
    """Return images, classes and vendors of every split."""
    size, first, made = CineSize(), 0, {}
    for split, count in (("training", size.training), ("validation", size.validation), ("test", size.test)):
        images, classes, vendors = [], [], []
        for site in SITES:
            for case in range(first, first + count):
                volume, _, group = draw_patient(site, case)
                images.append(ready(volume, (VENDORS[site].spacing_mm, VENDORS[site].slice_mm)))
                classes.append(group != "NOR")
                vendors.append(site)
        made[split] = (torch.stack(images), torch.tensor(classes), vendors)
        first += count
    return made


def features(network: VitClassifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network.features(part) for part in images.split(16)])


def fit(x: Tensor, y: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a logistic regression in which both classes count alike."""
    weight, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    share = y.float().mean()
    each = torch.where(y, 0.5 / share, 0.5 / (1 - share))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ weight + bias, y.float(), weight=each)
        loss = loss + strength * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def balanced(x: Tensor, y: Tensor, fitted: tuple[Tensor, Tensor]) -> float:
    said = x @ fitted[0] + fitted[1] > 0
    return ((said[y].float().mean() + (~said[~y]).float().mean()) / 2).item()


def probe(network: VitClassifier, splits: dict[str, tuple[Tensor, Tensor, list[str]]]) -> dict[str, float]:
    """Return the balanced accuracy on all test stacks and on each vendor's."""
    read = {name: features(network.eval(), images) for name, (images, _, _) in splits.items()}
    mean, spread = read["training"].mean(0), read["training"].std(0) + 1e-6
    read = {name: (value - mean) / spread for name, value in read.items()}
    truth = {name: classes for name, (_, classes, _) in splits.items()}
    fits = [fit(read["training"], truth["training"], strength) for strength in STRENGTHS]
    best = max(fits, key=lambda fitted: balanced(read["validation"], truth["validation"], fitted))
    told = {"all": balanced(read["test"], truth["test"], best)}
    for site in SITES:
        rows = torch.tensor([vendor == site for vendor in splits["test"][2]])
        told[site] = balanced(read["test"][rows], truth["test"][rows], best)
    return {name: round(value, 4) for name, value in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    torch.set_num_threads(1)
    saved = torch.load(run / "last.pt", weights_only=True)
    splits = patients()
    network = network_of("cine_tiny", saved["settings"]["seed"])
    random = probe(network, splits)
    network.load_state_dict(saved["network"])
    told = {"what": "balanced accuracy on the cine phantom's test stacks", "step": saved["step"],
            "pre_trained": probe(network, splits), "random_values": random}  # fmt: skip
    (run / "probe.json").write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
