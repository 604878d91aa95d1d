"""Networks of the layout of the published ones, small enough for a test."""

from sitelora.networks.vit.cine import CineClassifier
from sitelora.networks.vit.picture import PictureClassifier


def cine(**changes):
    settings = {"arch": "toy", "image_size": 24, "slices": 3, "quiet": True, "precision": "fp32"} | changes
    return CineClassifier(**settings).eval()


def picture(**changes):
    settings = {"arch": "toy", "image_size": 20, "quiet": True, "precision": "fp32"} | changes
    return PictureClassifier(**settings).eval()
