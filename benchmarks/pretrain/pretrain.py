"""Pre-trains sam_tiny on drawn pictures alone: what a picture shows, all its parts, and what a prompt means.

    python benchmarks/pretrain/pretrain.py --minutes 70 --out RUN
    python benchmarks/pretrain/pretrain.py --minutes 70 --resume RUN     # after an interruption
    python benchmarks/pretrain/export.py RUN                             # the embedded weights and their manifest

Three losses share one encoding of each picture. Mask tokens 0 and 1 answer both "background or what such a
picture is segmented for", with no prompt, and "background or this thing", with points or a box (Kirillov et
al., 2023). Tokens 2 and up answer for 14 kinds of structure and are not exported. The learning rate follows
the share of the minutes that is over, so a run fits its budget on any machine; the log holds every step's
rate.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from batches import image_batch, prompts
from drawings import KINDS, SIDE_PX, Textures, draw
from torch import Tensor

from sitelora.networks.sam import SamSegmenter


def two_way_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of the foreground: logits ``[B, 2, H, W]``, target ``[B, H, W]`` bool."""
    margin = logits[:, 1] - logits[:, 0]
    truth = target.float()
    entropy = F.binary_cross_entropy_with_logits(margin, truth)
    share = margin.sigmoid()
    overlap = (share * truth).sum((1, 2))
    dice = (2 * overlap + 1) / (share.sum((1, 2)) + truth.sum((1, 2)) + 1)
    return entropy + (1 - dice).mean()


def kinds_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Per-kind cross-entropy plus soft Dice of the kinds shown: logits and target ``[B, K, h, w]``."""
    truth = target.float()
    share = logits.sigmoid()
    shown = truth.sum((2, 3)) > 0
    dice = (2 * (share * truth).sum((2, 3)) + 1) / (share.sum((2, 3)) + truth.sum((2, 3)) + 1)
    return 2 * F.binary_cross_entropy_with_logits(logits, truth) + (1 - dice)[shown].sum() / shown.sum().clamp(min=1)


def dice_of(logits: Tensor, target: Tensor) -> float:
    """Return the mean hard Dice of channel 1 against channel 0."""
    chosen = logits[:, 1] > logits[:, 0]
    both = (chosen & target).sum((1, 2))
    return ((2 * both + 1) / (chosen.sum((1, 2)) + target.sum((1, 2)) + 1)).mean().item()


def sines(shape: torch.Size) -> Tensor:
    """Return 2-D sine positions ``[1, h, w, D]`` of deviation 0.14, which spare the learning of places."""
    _, height, width, channels = shape
    rates = 100.0 ** -torch.linspace(0, 1, channels // 4)
    y = torch.arange(height)[:, None] * rates
    x = torch.arange(width)[:, None] * rates
    rows = torch.cat([y.sin(), y.cos()], -1)[:, None].expand(-1, width, -1)
    cols = torch.cat([x.sin(), x.cos()], -1)[None].expand(height, -1, -1)
    return 0.2 * torch.cat([rows, cols], -1)[None]


def learning_rate(share: float, step: int, peak: float) -> float:
    """Linear warm-up over 60 steps, then half a cosine over the share of the budget that is over."""
    return peak * min(1.0, (step + 1) / 60) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def train(args: argparse.Namespace) -> None:
    run = args.resume or args.out
    run.mkdir(parents=True, exist_ok=True)
    checkpoint = run / "last.pt"
    network = SamSegmenter(arch="sam_tiny", image_size=SIDE_PX, classes=len(KINDS) + 1, seed=args.seed, quiet=True)
    with torch.no_grad():
        network.image_encoder.pos_embed.copy_(sines(network.image_encoder.pos_embed.shape))
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=args.peak_lr,
        betas=(0.9, 0.98),
    )
    step, spent_s = 0, 0.0
    if args.resume:
        saved = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent_s = saved["step"], saved["spent_s"]
    textures = Textures(args.seed)
    log = (run / "log.jsonl").open("a")
    kept_s, started = spent_s, time.monotonic()
    while spent_s < args.minutes * 60:
        rate = learning_rate(spent_s / (args.minutes * 60), step, args.peak_lr)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng([args.seed, 3, step])
        drawings = [draw(args.seed, step * args.batch + i, textures) for i in range(args.batch)]
        images = image_batch(drawings, rng)
        embedding = network.encode(images)
        logits = network.decode(embedding)
        meant = torch.tensor([d.has_principal for d in drawings])
        principal = torch.from_numpy(np.stack([d.principal for d in drawings]))
        kinds = torch.from_numpy(np.stack([d.kinds for d in drawings]))
        losses = {
            "principal": two_way_loss(logits[meant, :2], principal[meant]),
            "kinds": kinds_loss(logits[:, 2:, ::2, ::2], kinds[:, :, ::2, ::2]),
        }
        rows, given, target = prompts(drawings, rng)
        prompted = network.decode(embedding[rows], **given)
        losses["prompted"] = two_way_loss(prompted[:, :2], target)
        loss = losses["principal"] + 0.5 * losses["kinds"] + 0.7 * losses["prompted"]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        spent_s = kept_s + time.monotonic() - started
        line = {name: round(value.item(), 4) for name, value in losses.items()}
        line |= {
            "step": step, "minutes": round(spent_s / 60, 2), "lr": round(rate, 7),
            "norm": round(norm.item(), 3),
            "dice": round(dice_of(logits[meant, :2], principal[meant]), 4),
            "prompted_dice": round(dice_of(prompted, target), 4),
        }  # fmt: skip
        log.write(json.dumps(line) + "\n")
        if step % 20 == 0:
            log.flush()
            print(line, flush=True)
        if step % 100 == 0:
            _save(checkpoint, network, optimizer, step, spent_s, args)
    _save(checkpoint, network, optimizer, step, spent_s, args)


def _save(
    path: Path,
    network: SamSegmenter,
    optimizer: torch.optim.Optimizer,
    step: int,
    spent_s: float,
    args: argparse.Namespace,
) -> None:
    settings = {"seed": args.seed, "batch": args.batch, "peak_lr": args.peak_lr, "minutes": args.minutes}
    torch.save(
        {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
         "spent_s": spent_s, "settings": settings},
        path.with_suffix(".tmp"),
    )  # fmt: skip
    path.with_suffix(".tmp").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="folder of a new run")
    what.add_argument("--resume", type=Path, help="folder of a run to continue, with the same settings")
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--peak-lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    train(args)


if __name__ == "__main__":
    main()
