"""`sitelora predict`: from a model's file and images to masks, or to a diagnosis."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sitelora.serving.many_images import Case

HELP = "predict images with a site's model: masks on the images' own grids, a line a case"
EXAMPLES = """\
  sitelora predict personal.pt case.nii.gz --out masks        masks/case_seg.nii.gz
  sitelora predict personal.pt scans/ more/b.nii --out masks  files and folders
  sitelora predict exported/iat_prostate_site-1_20261126_segmentation scans/ --out masks
  sitelora predict personal.pt scans/ --out masks --largest-component --probabilities

The model's file says all that is needed: size, kind of image, labels. A file that cannot be used is named with the
reason, and the others are done. A case marked `?` is far from what the site trained on: do not trust it unseen.
Of a folder with site folders in it their images/ are meant. Files that are no image are counted.
Exit code 0: all done; 1: at least one image was refused; 2: nothing could be done, or --out takes no more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a site's personal.pt, or an exported bundle's folder"
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="NIfTI and PNG files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the predictions go")
    parser.add_argument("--replace", action="store_true", help="let new predictions take the place of older ones")
    parser.add_argument(
        "--probabilities", action="store_true", help="also write the probability of every label as an image"
    )
    parser.add_argument(
        "--largest-component", action="store_true", help="keep of every label its largest connected piece alone"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: cuda where there is one)")


def run(args: argparse.Namespace) -> int:
    """Predict the images."""
    from sitelora.commands._progress import CaseProgress
    from sitelora.commands._terminal import one_line, printable
    from sitelora.serving.many_images import predict_many
    from sitelora.serving.named_images import named_images
    from sitelora.serving.outputs import Wanted
    from sitelora.stopping import stops_as_interrupt

    within = CaseProgress("predicting", things="slices")
    refused = total = unlike = 0
    named = named_images(args.images, out=args.out)
    cases = predict_many(
        args.model,
        named,
        out=args.out,
        wanted=Wanted(probabilities=args.probabilities, largest_component=args.largest_component),
        device=args.device,
        replace=args.replace,
        progress=lambda done, slices: within("", done, slices),
    )
    with stops_as_interrupt(), closing(cases):  # closed at once, so that nothing of an image stays beside the masks
        for case in cases:
            print(printable(line(case)), flush=True)
            total, refused, unlike = case.of, refused + bool(case.refused), unlike + bool(case.unlike)
    if named.told:
        print(printable(one_line(named.told)), file=sys.stderr)
    told = f"{total - refused} of {total} images done"
    told += f", {refused} refused" if refused else ""
    told += f", {unlike} unlike what the site trained on" if unlike else ""
    print(told, file=sys.stderr)
    return 1 if refused else 0


def line(case: Case) -> str:
    """Return what is said of one case: one line, that a file's name cannot break."""
    from sitelora.commands._terminal import one_line

    took = f"({case.seconds:.1f} s" + (f", about {duration(case.left)} left)" if case.number < case.of else ")")
    if case.refused:
        result = f"! {case.image} refused: {case.refused.removeprefix(f'{case.image}: ')}"
    else:
        written = ", ".join(str(file) for file in case.files)
        result = f"? {case.image} -> {written}" if case.unlike else f"{case.image} -> {written}"
        result += f" unlike the training images: {'; '.join(case.unlike)}" if case.unlike else ""
    return one_line(f"[{case.number}/{case.of}] {result} {took}")


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
