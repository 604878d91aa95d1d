"""Pre-trains cine_tiny on drawn hearts or vit_tiny on drawn pictures, as masked autoencoders.

    python benchmarks/pretrain/pretrain_vit.py cine_tiny --steps 4000 --out RUN
    python benchmarks/pretrain/pretrain_vit.py cine_tiny --out RUN          # the same run, after an interruption
    python benchmarks/pretrain/probe.py RUN                                 # what a linear probe reads off it
    python benchmarks/pretrain/export.py RUN                                # the embedded weights and their manifest

Everything follows from the seed and the step, so a run that was interrupted ends as one that was not; bits are equal on
processors of one kind. A class is told to nobody.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from banks import MATRIX, PICTURE_PX, SLICES, bank, batch
from masked import MaskedAutoencoder, hide, learning_rate, start

from sitelora.networks.precision import autocast
from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.classifier import VitClassifier
from sitelora.networks.vit.picture import PictureClassifier

KINDS = {"cine_tiny": "hearts", "vit_tiny": "pictures"}
SAVED_EVERY = 100


def network_of(arch: str, seed: int) -> VitClassifier:
    """Return the network that a run trains, at the size of what is drawn."""
    if arch == "cine_tiny":
        return CineClassifier(arch=arch, image_size=MATRIX, slices=SLICES, seed=seed, quiet=True)
    return PictureClassifier(arch=arch, image_size=PICTURE_PX, seed=seed, quiet=True)


def autoencoder_of(network: VitClassifier, seed: int) -> MaskedAutoencoder:
    """Return the autoencoder around it, its linear layers seeded anew."""
    torch.manual_seed(seed)
    if isinstance(network, CineClassifier):
        model = MaskedAutoencoder(network, network.encoder.stem.grid, 16, 2)
    else:
        side = network.encoder.side
        model = MaskedAutoencoder(network, (side, side), PICTURE_PX // side, 3)
    return model.apply(start)


def train(run: Path, settings: dict) -> None:
    network = network_of(settings["arch"], settings["seed"])
    model = autoencoder_of(network, settings["seed"])
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=settings["peak_lr"], betas=(0.9, 0.95),
    )  # fmt: skip
    step, spent_s = 0, 0.0
    if (run / "last.pt").is_file():
        saved = torch.load(run / "last.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent_s = saved["step"], saved["spent_s"]
        kept = (run / "log.jsonl").read_text().splitlines(keepends=True)[:step]
        (run / "log.jsonl").write_text("".join(kept))
    drawn = bank(KINDS[settings["arch"]], settings["seed"], settings["drawings"], run)
    started = time.process_time()
    with (run / "log.jsonl").open("a") as log:
        while step < settings["steps"]:
            rate = learning_rate(step, settings["steps"], settings["peak_lr"], settings["warm_up"])
            for group in optimizer.param_groups:
                group["lr"] = rate
            rng = np.random.default_rng([settings["seed"], 5, step])
            images = network.ready(batch(drawn, rng.choice(len(drawn), settings["batch"], replace=False), rng))
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            hidden = hide(len(images), model.places.shape[1], settings["hidden"], generator)
            with autocast(network.compute_precision, images.device):
                loss = model(images, hidden)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            line = {"step": step, "loss": round(loss.item(), 6), "norm": round(norm.item(), 3), "lr": round(rate, 7)}
            log.write(json.dumps(line) + "\n")
            if step % SAVED_EVERY == 0 or step == settings["steps"]:
                log.flush()
                now_s = spent_s + time.process_time() - started
                save(run, {"model": model.state_dict(), "network": network.state_dict(), "step": step,
                           "optimizer": optimizer.state_dict(), "spent_s": now_s, "settings": settings})  # fmt: skip
                print(line, f"{now_s / 60:.1f} min of the processor", flush=True)


def save(run: Path, state: dict) -> None:
    torch.save(state, run / "last.tmp")
    (run / "last.tmp").replace(run / "last.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arch", choices=sorted(KINDS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; one that is there goes on")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--drawings", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hidden", type=float, default=0.75, help="share of the tokens (He et al.: 0.75)")
    parser.add_argument("--peak-lr", type=float, default=1e-3)
    parser.add_argument("--warm-up", type=int, default=100, help="steps")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settings = {name: value for name, value in vars(args).items() if name != "out"}
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.out / "last.pt").is_file():
        before = torch.load(args.out / "last.pt", weights_only=True)["settings"]
        if before != settings:
            parser.error(f"{args.out} was begun with {before}, found {settings}: give the same, or another folder")
    train(args.out, settings)


if __name__ == "__main__":
    main()
