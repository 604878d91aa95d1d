"""How well a base transfers: LoRA on q, v of encoder and decoder plus the heads, lungs of two hospitals.

    python benchmarks/transfer.py --data ../shared/data/chest_xray --out transfer.json --base embedded --steps
    100 400

One network per hospital, trained on its own pictures; Dice on its held-out pictures. One thread, so seeds
decide.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sitelora.adapters.base import insert_adapters
from sitelora.adapters.lora import LoRA
from sitelora.networks.names import HEADS
from sitelora.networks.precision import set_precision
from sitelora.networks.sam import SamSegmenter, base_fingerprint
from sitelora.seeding import derive_seed

SIDE_PX = 128
TEST_CASES = 40


def read_hospital(folder: Path, train_cases: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images ``[n, 1, 128, 128]`` and masks ``[n, 128, 128]``, then test ones."""
    names = sorted((path.name for path in (folder / "masks").glob("*.png")), key=lambda name: derive_seed(0, name))
    images, masks = [], []
    for name in names[: TEST_CASES + train_cases]:
        picture = Image.open(folder / "images" / name.replace("_mask", "")).convert("L")
        pixels = np.asarray(picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR), np.float32)
        low, high = np.percentile(pixels, [1, 99])
        images.append(np.clip((pixels - low) / (high - low), 0, 1).astype(np.float32)[None])
        mask = Image.open(folder / "masks" / name).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)
        masks.append(np.asarray(mask.convert("L")) > 0)
    image, mask_tensor = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))
    return image[TEST_CASES:], mask_tensor[TEST_CASES:], image[:TEST_CASES], mask_tensor[:TEST_CASES]


@torch.no_grad()
def mean_dice(network: SamSegmenter, images: Tensor, masks: Tensor) -> float:
    network.eval()
    found = torch.cat([network(part).argmax(1) == 1 for part in images.split(8)])
    network.train()
    return (2 * (found & masks).sum((1, 2)) / (found.sum((1, 2)) + masks.sum((1, 2)))).mean().item()


def augmented(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn, scale and shift each picture ``[B, 1, H, W]`` with its mask ``[B, H, W]``, and change its gamma."""
    draws = torch.rand(len(images), 5, generator=generator) * 2 - 1
    angle, scale = draws[:, 0] * 0.2, 1 + draws[:, 1] * 0.15
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift_x, shift_y = draws[:, 2] * 0.1, draws[:, 3] * 0.1
    matrix = torch.stack([cos, -sin, shift_x, sin, cos, shift_y], -1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False, padding_mode="zeros")
    mask = F.grid_sample(masks[:, None].float(), grid, align_corners=False, mode="nearest")[:, 0] > 0.5
    return moved.clamp(0, 1) ** (draws[:, 4] * 0.4).exp()[:, None, None, None], mask


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """FLAP-SAM's 0.2 cross-entropy + 0.8 Dice."""
    share = logits.softmax(1)[:, 1]
    truth = target.float()
    dice = (2 * (share * truth).sum() + 1e-5) / ((share**2).sum() + (truth**2).sum() + 1e-5)
    return 0.2 * F.cross_entropy(logits, target.long()) + 0.8 * (1 - dice)


def adapt(args: argparse.Namespace, hospital: Path, steps: list[int]) -> tuple[dict[str, float], float, str]:
    base = None if args.base == "none" else args.base
    network = SamSegmenter(arch=args.arch, image_size=SIDE_PX, base=base, seed=args.seed, quiet=True)
    network.requires_grad_(False)
    specs = [LoRA(where="image_encoder", rank=args.rank), LoRA(where="mask_decoder", rank=args.rank)]
    insert_adapters(network, specs, seed=args.seed)
    heads = tuple(pattern.removesuffix("**") for pattern in HEADS)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(heads) or name.endswith((".A", ".B")))
    set_precision(network, args.precision)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.01)
    train_images, train_masks, test_images, test_masks = read_hospital(hospital, args.train_cases)
    generator = torch.Generator().manual_seed(derive_seed(args.seed, hospital.name))
    scores = {"0": round(mean_dice(network, test_images, test_masks), 4)}
    spent_s = 0.0
    for step in range(1, max(steps) + 1):
        rows = torch.randint(len(train_images), (args.batch,), generator=generator)
        images, masks = train_images[rows], train_masks[rows]
        if args.augment:
            images, masks = augmented(images, masks, generator)
        started = time.process_time()
        loss = loss_of(network(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent_s += time.process_time() - started
        if step in steps:
            scores[str(step)] = round(mean_dice(network, test_images, test_masks), 4)
    return scores, spent_s / max(steps) / args.batch, base_fingerprint(network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arch", default="sam_tiny")
    parser.add_argument("--base", default="embedded", help="embedded, none (random) or a path")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--train-cases", type=int, default=200)
    parser.add_argument("--augment", action="store_true", help="turn, scale, shift and gamma while training")
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scores, seconds, prints = {}, [], ""
    for hospital in ("montgomery", "shenzhen"):
        scores[hospital], each_s, prints = adapt(args, args.data / hospital, args.steps)
        seconds.append(each_s)
        print(hospital, scores[hospital], flush=True)
    keys = ["0", *map(str, args.steps)]
    result = {
        "settings": {key: str(value) if isinstance(value, Path) else value
                     for key, value in vars(args).items() if key not in ("data", "out")},
        "resolution_px": SIDE_PX,
        "test_cases": TEST_CASES,
        "base_fingerprint": prints,
        "test_dice": scores,
        "mean_test_dice": {key: round(float(np.mean([s[key] for s in scores.values()])), 4) for key in keys},
        "train_ms_per_picture": round(1000 * float(np.mean(seconds)), 1),
        "threads": 1,
        "hardware": platform.processor() or platform.machine(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(result["mean_test_dice"], result["train_ms_per_picture"], "ms a picture")


if __name__ == "__main__":
    main()
