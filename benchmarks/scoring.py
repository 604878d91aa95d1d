"""What it costs to score three models on a site's cases, as it was and as it is, in turn.

    python benchmarks/scoring.py --out benchmarks/results/scoring.json

Drawn pictures (500 x 500, RGB) and volumes of the prostate phantom, `sam_tiny` at 128 px in one thread. "Before"
prepares every case for every model, takes MONAI's argmax and MONAI's percentiles; "after" is the product. Both give the
same scores, which is asserted. Processor milliseconds a case and model, the median of the repeats: with surface
distances, as after the last round, and without, as between rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import monai
import numpy as np
import torch
from aggregation import processor
from monai.transforms import AsDiscreted
from monai.transforms.utils_pytorch_numpy_unification import percentile
from PIL import Image

from sitelora.comparison.run import commit
from sitelora.data.intensity import percentiles
from sitelora.data.phantom.make import PhantomSize, make_phantom
from sitelora.data.site_folder import SiteFolder
from sitelora.evaluation.cases import evaluate_cases, prepared
from sitelora.evaluation.kept_cases import KeptCases
from sitelora.federation.bundle_config import read_bundle
from sitelora.networks.sam import SamSegmenter
from sitelora.serving.answer import quick
from sitelora.tasks.segmentation import TASK

MODELS = 3
SIZE = PhantomSize(training=1, validation=1, test=2)
PICTURE = (500, 500)


def monais(image: torch.Tensor, lower: float, upper: float) -> tuple[float, float]:
    return float(percentile(image, lower)), float(percentile(image, upper))


@contextmanager
def as_before() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(patch("sitelora.evaluation.cases.quick", lambda step: step))
        stack.enter_context(patch("sitelora.data.intensity.percentiles", monais))
        yield


def pictures(root: Path, count: int) -> SiteFolder:
    """Smooth drawings with discs as their truth."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: PICTURE[0], : PICTURE[1]]
    content: dict[str, Any] = {"name": "site", "hospital": "H", "labels": {"0": "background", "1": "disc"}}
    content |= {"training": [], "validation": [], "test": []}
    for folder in ("images", "labels"):
        (root / "site" / folder).mkdir(parents=True)
    for number in range(count):
        mask = sum((rows - y) ** 2 + (columns - x) ** 2 < 900 for y, x in rng.integers(0, 500, (8, 2))) > 0
        grey = 90 + 80 * mask + rng.normal(0, 15, PICTURE)
        entry = {"image": f"images/{number}.png", "label": f"labels/{number}.png"}
        Image.fromarray(np.stack([grey.clip(0, 255).astype(np.uint8)] * 3, axis=-1)).save(
            root / "site" / entry["image"]
        )
        Image.fromarray(mask.astype(np.uint8)).save(root / "site" / entry["label"])
        content["test"].append({**entry, "patient": f"P{number}"})
    (root / "site" / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return SiteFolder.read(root / "site")


def used(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    made = work()
    return made, 1000 * (time.process_time() - started)


def scoring(folder: SiteFolder, is_picture: bool, repeats: int) -> dict[str, Any]:
    values = {"image_size": 128, "pictures": is_picture}
    part = read_bundle("iat_segmentation", values, config="inference").get_parsed_content
    network = SamSegmenter(arch="sam_tiny", image_size=128, quiet=True, precision="fp32")
    cases = len(folder.cases("test"))
    rows: dict[str, Any] = {"cases": cases, "models": MODELS}
    for name, primary_only in (("between_rounds", True), ("after_the_last_round", False)):
        found: dict[str, list[float]] = {"before": [], "after": []}
        for _ in range(repeats):
            scores = {}
            for version in found:
                kept = KeptCases() if version == "after" else None

                def all_models(kept: KeptCases | None = kept, primary_only: bool = primary_only) -> list[Any]:
                    how = {"pipeline": part, "primary_only": primary_only, "kept": kept}
                    return [evaluate_cases(network, folder, "test", TASK, **how) for _ in range(MODELS)]

                if version == "before":
                    with as_before():
                        scores[version], milliseconds = used(all_models)
                else:
                    scores[version], milliseconds = used(all_models)
                found[version].append(milliseconds / cases / MODELS)
            assert scores["before"] == scores["after"]
        rows[name] = told(found)
    return {**rows, "parts": parts(folder, network, part, repeats)}


def told(found: dict[str, list[float]]) -> dict[str, float]:
    before, after = (statistics.median(found[version]) for version in ("before", "after"))
    return {"before_ms": round(before, 2), "after_ms": round(after, 2), "times": round(before / after, 2)}


def parts(folder: SiteFolder, network: torch.nn.Module, part: Callable[[str], Any], repeats: int) -> dict[str, Any]:
    """Argmax, percentiles, preparing and the network by themselves, on the first case."""
    image = Path(folder.cases("test")[0]["image"])
    loaded = part("preprocessing").transforms[0]({"image": str(image)})["image"].as_subclass(torch.Tensor).float()
    shape = (2, *(loaded.shape if loaded.ndim == 3 and loaded.shape[-1] != 3 else loaded.shape[:2]))
    answer = {"pred": torch.rand(shape)}
    theirs = AsDiscreted(keys="pred", argmax=True)
    ours = quick(theirs)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "argmax": (lambda: theirs(answer), lambda: ours(answer)),
        "percentiles": (lambda: monais(loaded, 1, 99), lambda: percentiles(loaded, 1, 99)),
    }
    rows: dict[str, Any] = {}
    for name, (before, after) in pairs.items():
        found: dict[str, list[float]] = {"before": [], "after": []}
        for _ in range(3 * repeats):
            found["before"].append(used(before)[1])
            found["after"].append(used(after)[1])
        rows[name] = told(found)
    data = prepared(image, part)["image"].as_subclass(torch.Tensor)[None]
    network.eval()
    with torch.no_grad():
        alone = [used(lambda: part("inferer")(data, network))[1] for _ in range(repeats)]
    rows["network_ms"] = round(statistics.median(alone), 2)
    rows["preparing_ms"] = round(statistics.median(used(lambda: prepared(image, part))[1] for _ in range(repeats)), 2)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cases", type=int, default=6, help="pictures; the phantom has its own number of volumes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("pictures", "volumes"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if args.only in (None, "pictures"):
            rows["pictures"] = scoring(pictures(root / "pictures", args.cases), True, args.repeats)
        if args.only in (None, "volumes"):
            phantom = make_phantom(root / "volumes", size=SIZE, sites=["site-1"])
            rows["volumes"] = scoring(SiteFolder.read(phantom / "site-1"), False, args.repeats)
    result = {
        "what": "processor milliseconds a case and model, scored by three models on the same cases",
        "command": "python benchmarks/scoring.py --out FILE",
        "commit": commit(),
        "threads": 1,
        "hardware": {"processor": processor(), "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1)},
        "versions": {"torch": torch.__version__, "monai": monai.__version__, "python": platform.python_version()},
        "sizes": {"picture": PICTURE, "image_size": 128},
        **rows,
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
