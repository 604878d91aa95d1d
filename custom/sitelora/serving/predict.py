"""What a model predicts of one image, through its bundle's own inference and in the image's own grid.

The voxels are those of `python -m monai.bundle run`. A volume that is larger than ``LARGE`` goes through the same
transforms a stack of slices at a time (`serving.in_parts`), as far as nothing in the bundle looks beyond a stack.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.utils import list_data_collate
from monai.engines.evaluator import SupervisedEvaluator
from monai.handlers.stats_handler import StatsHandler
from monai.transforms import AsDiscreted, Compose, SaveImaged
from torch import Tensor

from sitelora.data.errors import behind
from sitelora.data.rules import refuse_one_value
from sitelora.data.stored_volume import extent_of
from sitelora.data.trained_on import Facts
from sitelora.serving.answer import answered, quick, require_numbers
from sitelora.serving.bundle_parts import MaskNames
from sitelora.serving.in_parts import goes_in_parts, predict_in_parts
from sitelora.serving.open_model import OpenModel
from sitelora.serving.outputs import Wanted, keep_largest, write_probabilities

LARGE = 1 << 22
"""Voxels above which a volume is worked on in parts."""
Progress = Callable[[int, int], None]
"""Called with the slices that are done and all of them."""


class NoMaskError(ValueError):
    """Something was asked for that only a model has that gives masks."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Predicts images with one model, each into one folder.

    Attributes:
        model: opened. wanted: what is written beside the prediction, and done to it.
        names: of the files, from all images of the call.
    """

    model: OpenModel
    wanted: Wanted
    names: MaskNames

    @classmethod
    def of(cls, model: OpenModel, images: Sequence[Path], wanted: Wanted) -> Predictor:
        """Return one for the images of a call.

        Raises:
            NoMaskError: what is wanted is of a mask, and the model gives none.
        """
        names = MaskNames()
        names.learn([str(image) for image in images])
        if "names" in model.config:
            model.config["names"] = names
        steps = model.config.get_parsed_content("postprocessing").transforms
        writers = [step for step in steps if isinstance(step, SaveImaged)]
        if wanted.of_masks and not writers:
            raise NoMaskError(f"{model.file} gives no mask: leave --probabilities and --largest-component out")
        for writer in writers:
            writer.saver.set_options(write_kwargs={"verbose": False})  # the command has a line a case of its own
        return cls(model=model, wanted=wanted, names=names)

    def __call__(self, image: Path, scratch: Path, progress: Progress) -> list[str]:
        """Write what is predicted of an image into the folder that the model was opened for.

        Args:
            image: a NIfTI or PNG file. scratch: an empty folder for what is large and not kept.
            progress: told of a volume that goes in parts.

        Returns:
            In what the image is far outside of what the model was trained on; empty where nothing is to be said.

        Raises:
            SiteDataError: the file is unreadable, unfit, of one value only, or of another kind; or the model's answer
                is not finite.
        """
        try:
            if not self.model.pictures and np.prod(extent_of(image)) > LARGE and goes_in_parts(self.model.config):
                facts = predict_in_parts(self.model, image, scratch, self.wanted, progress)
            else:
                facts = self._whole(image)
        except RuntimeError as error:  # MONAI wraps what a transform raises
            if (unfit := behind(error)) is None:
                raise
            raise unfit from None
        return self.model.trained_on.unlike(facts) if self.model.trained_on is not None else []

    def _whole(self, image: Path) -> Facts:
        part = self.model.config.get_parsed_content
        loader, *others = part("preprocessing").transforms
        data = loader({"image": str(image)})
        facts = facts_of(data["image"], image, pictures=self.model.pictures)
        data = Compose(others)(data)
        if any(isinstance(step, SaveImaged) for step in part("postprocessing").transforms):
            self._write_mask(data, image)
        else:
            self._answer(data)
        return facts

    def _write_mask(self, data: Mapping[Hashable, Any], image: Path) -> None:
        part = self.model.config.get_parsed_content
        logits = answered(self.model.network, data["image"].as_subclass(Tensor)[None], part)
        require_numbers(logits, image)
        after: dict[str, Any] = {"image": data["image"], "pred": logits[0]}
        for step in part("postprocessing").transforms:
            if isinstance(step, AsDiscreted) and self.wanted.probabilities:
                write_probabilities(after["pred"], self.model, self.names)
            if isinstance(step, SaveImaged) and self.wanted.largest_component:
                keep_largest(after["pred"].numpy()[0])
            after = Compose([quick(step)])(after)

    def _answer(self, data: Mapping[Hashable, Any]) -> None:
        """Let the bundle's evaluator give its answer, whose handlers write it."""
        part = self.model.config.get_parsed_content
        SupervisedEvaluator(
            device=self.model.device,
            val_data_loader=[list_data_collate([data])],
            network=self.model.network,
            inferer=part("inferer"),
            postprocessing=part("postprocessing"),
            val_handlers=[each for each in part("handlers") if not isinstance(each, StatsHandler)],
        ).run()
        if self.names.unanswered:
            raise self.names.unanswered.pop()


def facts_of(loaded: Any, image: Path, *, pictures: bool) -> Facts:
    """Return the facts of an image as it was loaded.

    Raises:
        UnfitFileError: it has one value everywhere.
    """
    values = loaded.as_subclass(Tensor).numpy()
    axes = len(loaded.meta["spatial_shape"])
    spacing = None if pictures else loaded.pixdim.tolist()
    facts = Facts.of(values, channels=values.shape[-1] if values.ndim > axes else 1, spacing_mm=spacing)
    refuse_one_value(float(values.min()), float(values.max()), image)
    return facts
