"""Do an annotator's corrections come back? A kind of image that the model does badly, three of its masks corrected.

    python benchmarks/corrections.py               three seeds on drawn phantoms, one core
    python benchmarks/corrections.py --only-page   from the file that is there

Two sites federate, and the model is exported. Then site-1 gets another protocol, on which fat is bright and the gland
is as grey as the muscle around it. Of three such patients the annotator submits the masks as she would draw them;
`sitelora prepare monailabel` takes them into site-1's folder, two for training and one for validation, and a second
federation goes on from the exported model.
What counts is Dice on *other* patients of that protocol. The control goes on for as many rounds without corrections, so
that more training is not taken for corrections. Nothing is chosen by these patients: the protocol was fixed before.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "corrections.json"
PAGE = HERE.parent / "docs" / "results" / "corrections.md"
SEEDS = (0, 1, 2)
SITES = ("site-1", "site-2")
CORRECTED, OTHERS = range(100, 103), range(110, 118)
"""Numbers of the new protocol's patients: whose masks come back, and who are asked."""
DRAWN = {"training": 6, "validation": 2, "test": 4, "matrix": 64, "slices": 8}
VALUES = {"image_size": 64, "slices": 3, "epochs": 2, "crops_per_volume": 2, "method": "fedavg_lora"}
GOING_ON = {"epochs": 6, "learning_rate": 0.002}
"""Of the second federation and of the control alike: three volumes among nine need more passes (our choice)."""
ROUNDS = 3
OTHER_PROTOCOL = {
    "fat": 0.95, "marrow": 0.80, "muscle": 0.35, "plexus": 0.40, "peripheral": 0.36, "transition": 0.40,
    "stroma": 0.32, "nodule": 0.44, "lesion": 0.30, "urine": 0.10, "vesicle": 0.20, "wall": 0.30, "bulb": 0.35,
}  # fmt: skip
HEAD = """# Corrections that come back

Two drawn sites federate and export their model; then site-1 images with another protocol, on which the model does
badly. Three patients' masks are corrected and taken by `sitelora prepare monailabel`, two for training and one for
validation; a second federation of as many rounds goes on from the exported model. Dice on eight **other** patients of
that protocol, and on the site's usual test cases; the control goes on without the corrections. Drawn images say nothing
about patients, and the sizes are small (64 pixels, six training volumes a site). Written from
`benchmarks/results/corrections.json` by

```sh
python benchmarks/corrections.py --only-page
```

| seed | model | the corrected three | other patients of the protocol | site-1's usual test cases |
| --- | --- | --- | --- | --- |
"""


def draw(folder: Path, numbers: Sequence[int], seed: int) -> list[Path]:
    """Draw patients of the other protocol at site-1; return their images, whose masks are in ``folder/masks``."""
    from sitelora.data.nifti import write_nifti
    from sitelora.data.phantom.make import PhantomSize, draw_case
    from sitelora.data.phantom.sites import PROFILES

    own = PROFILES["site-1"][0]
    scanner = replace(own, tissue={**own.tissue, **OTHER_PROTOCOL})
    (folder / "masks").mkdir(parents=True)
    for number in numbers:
        image, mask, affine = draw_case("site-1", number, seed=seed, size=PhantomSize(**DRAWN), scanner=scanner)
        write_nifti(folder / f"new-{number}.nii.gz", image, affine)
        write_nifti(folder / "masks" / f"new-{number}.nii.gz", mask, affine)
    return sorted(folder.glob("*.nii.gz"))


def dice(model: Path, images: Sequence[Path], truths: Path, out: Path) -> list[float]:
    """Return the Dice of a model's masks of some images."""
    from sitelora.data.reading import read_pixels
    from sitelora.serving.many_images import predict_many
    from sitelora.serving.outputs import Wanted

    found = []
    for case in predict_many(model, images, out=out, wanted=Wanted(), device="cpu"):
        mask, truth = (read_pixels(path).values == 1 for path in (case.files[0], truths / case.image.name))
        found.append(round(2 * int((mask & truth).sum()) / int(mask.sum() + truth.sum()), 4))
    return found


def federate(data: Path, home: Path, seed: int, **values: Any) -> tuple[Path, Any]:
    """Run one federation and return its folder and its result."""
    from sitelora.federation.in_process import run_in_process

    result = run_in_process(
        bundle="baseline_segmentation",
        dataset="prostate",
        federation=home.name,
        sites=SITES,
        rounds=ROUNDS,
        overrides={**VALUES, "seed": seed, "torch_threads": 1, **values},
        data=data,
        home_folder=home,
        uid="run",
    )
    return home / home.name / "run", result


def round_trip(place: Path, seed: int) -> dict[str, Any]:
    """Return what one seed gives: Dice of the exported model, of the control and of the corrected federation."""
    from sitelora.data.corrections.corrected_site import correct_site
    from sitelora.data.phantom.make import PhantomSize, make_phantom
    from sitelora.model_export.export import export_model
    from sitelora.model_export.model_of_run import ModelOfRun

    size = PhantomSize(**DRAWN)
    site = make_phantom(place / "data", sites=SITES, size=size, seed=seed) / "site-1"
    run, first = federate(place / "data", place / "first", seed)
    exported = export_model(ModelOfRun.find(run, "site-1", "global"), place / "exported", served=False).folder
    studies, others = draw(place / "studies", CORRECTED, seed), draw(place / "others", OTHERS, seed)
    (place / "studies" / "labels").mkdir()
    shutil.copytree(place / "studies" / "masks", place / "studies" / "labels" / "final")
    taken = correct_site(place / "studies", place / "corrected", folder=site)
    shutil.copytree(site.parent / "site-2", taken.folder.parent / "site-2")
    base = str(exported / "models" / "model.pt")
    trained = {
        "control": federate(place / "data", place / "control", seed, base=base, **GOING_ON),
        "corrected": federate(place / "corrected", place / "second", seed, base=base, **GOING_ON),
    }
    models = {"exported": (exported, first, "global")} | {
        name: (folder / "site-1" / "models" / "personal.pt", result, "personal")
        for name, (folder, result) in trained.items()
    }
    return {
        "seed": seed,
        "taken": dict(taken.counts),
        "base": first.base.name,
        "versions": first.versions,
        "hardware": first.hardware,
        **{
            name: {
                "corrected_cases": dice(
                    model, studies, place / "studies" / "masks", place / "out" / name / "corrected"
                ),
                "other_patients": dice(model, others, place / "others" / "masks", place / "out" / name / "others"),
                "usual_test_cases": {at: result.evaluation[at][kind].score for at in SITES},
            }
            for name, (model, result, kind) in models.items()
        },
    }


def page(found: Mapping[str, Any]) -> str:
    """Return the page of a result."""
    lines, gains = [HEAD.rstrip("\n")], []
    for run in found["runs"]:
        means = {}
        for name, words in (("exported", "exported"), ("control", "control"), ("corrected", "with corrections")):
            one = run[name]
            means[name] = statistics.fmean(one["other_patients"])
            numbers = (statistics.fmean(one["corrected_cases"]), means[name], one["usual_test_cases"]["site-1"])
            lines.append(f"| {run['seed']} | {words} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
        gains.append((means["corrected"] - means["exported"], means["corrected"] - means["control"]))
    told = [", ".join(f"{gain[at]:+.3f}" for gain in gains) for at in (0, 1)]
    lines += ["", f"Other patients, with corrections against the exported model, by seed: {told[0]};"]
    lines += [f"against the control: {told[1]}.", ""]
    at_site = [[run[name]["usual_test_cases"]["site-1"] for name in ("exported", "corrected")] for run in found["runs"]]
    same = [str(run["seed"]) for run, (before, after) in zip(found["runs"], at_site, strict=True) if before == after]
    if same:
        lines += [
            f"Seed {', '.join(same)}: **no gain.**",
            "After the second federation site-1 is served what it began with (its usual test score is the same to",
            "the last bit), which its own validation cases preferred.",
            "",
        ]
    processors = ", ".join(sorted({run["hardware"]["processor"] for run in found["runs"]}))
    return "\n".join([*lines, f"Made on {processors}.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-page", action="store_true", help="run nothing")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(SEEDS), help="seeds, kept beside those in the file"
    )
    args = parser.parse_args()
    from sitelora.comparison.run import commit

    about = {"format": 1, "command": "python benchmarks/corrections.py", "commit": commit(), "drawn": DRAWN}
    about |= {
        "settings": VALUES,
        "going_on": GOING_ON,
        "rounds": ROUNDS,
        "protocol": OTHER_PROTOCOL,
        "sites": list(SITES),
    }
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"runs": []}
    for seed in [] if args.only_page else args.seeds:
        with tempfile.TemporaryDirectory(prefix="sitelora-corrections-") as place:
            run = round_trip(Path(place), seed)
        runs = sorted([run, *(one for one in found["runs"] if one["seed"] != seed)], key=lambda one: one["seed"])
        found = {**about, "runs": runs}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    print(page(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
