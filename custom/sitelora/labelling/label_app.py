"""MONAI Label's app of exported models, written against its own extension points; runs in its environment alone.

Beside what MONAI Label's app for bundles does: tensors load strictly, a model's description is that of what is served
now, an image is judged as `sitelora predict` judges it, what went wrong is told to who asked, and a name stays a name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.infer.bundle import BundleInferTask

from sitelora.data.endings import VOLUMES
from sitelora.data.errors import UnfitFileError, behind
from sitelora.data.trained_on import TrainedOn
from sitelora.federation.files import json_if_readable
from sitelora.labelling.app_folder import MODELS, ROOT
from sitelora.model_export.versions import FROM, METADATA, MODEL, OURS
from sitelora.serving.answer import require_numbers
from sitelora.serving.model_file import made_of, trained_on
from sitelora.serving.predict import facts_of

NOT_POSSIBLE, UNKNOWN = 422, 404


class ServedModel(BundleInferTask):
    """One exported model. MONAI Label takes its file anew where its time is another one."""

    def __init__(self, folder: Path, conf: dict[str, str]) -> None:
        super().__init__(str(folder), conf, load_strict=True)
        self.folder = folder
        # One folder, one model: two files of one time would be answered with the first one's masks.
        self._config.pop("model_filename", None)
        self._config["result_dtype"] = "uint8"
        self._judged: tuple[int, TrainedOn | None] = (0, None)

    def info(self) -> dict[str, Any]:
        """Return what a viewer shows of it, of the version that is served now."""
        return {**super().info(), "description": self._told().get("description", self.description)}

    def run_pre_transforms(self, data: dict[str, Any], transforms: Sequence[Callable[..., Any]]) -> Any:
        """Load the image, judge it as `sitelora predict` does, and go on.

        Raises:
            UnfitFileError: it is of one value only.
        """
        loader, *others = transforms
        data = super().run_pre_transforms(data, [loader])
        facts = facts_of(data["image"], Path(data["image_path"]), pictures=False)
        ranges = self._trained_on()
        data["unlike"] = ranges.unlike(facts) if ranges is not None else []
        return super().run_pre_transforms(data, others)

    def run_inferer(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Ask the network, and judge its answer as `sitelora predict` does.

        Raises:
            UnfitFileError: it is not finite.
        """
        data = super().run_inferer(data, *args, **kwargs)
        require_numbers(data[self.output_label_key], Path(data["image_path"]))
        return data

    def writer(self, data: Any, extension: str | None = None, dtype: Any = None) -> tuple[Any, dict[str, Any]]:
        """Write the mask, and tell which version gave it and in what its image is unlike the training images."""
        image = Path(data["image_path"])
        ending = extension or data.get("result_extension") or "".join(image.suffixes[-2:])
        if ending.lower().endswith(VOLUMES):  # MONAI Label's own writer turns a sheared affine into another one
            number, file = tempfile.mkstemp(suffix=ending)
            os.close(number)
            loaded: Any = nib.load(image)  # NIfTI of either form
            mask = np.asarray(data[self.output_label_key]).astype(np.uint8)
            nib.save(nib.Nifti1Image(mask, loaded.affine), file)
            told: dict[str, Any] = {}
        else:
            file, told = super().writer(data, extension, dtype)
        served = self._told().get(OURS, {}).get(FROM) or self.folder.name
        return file, {**told, "version": served, "unlike": data["unlike"]}

    def _told(self) -> dict[str, Any]:
        return json_if_readable(self.folder / METADATA)

    def _trained_on(self) -> TrainedOn | None:
        """Return between which numbers the training images of the served version lie; read once a file."""
        file = self.folder / MODEL
        written = file.stat().st_mtime_ns
        if self._judged[0] != written:
            self._judged = (written, trained_on(made_of(file)))
        return self._judged[1]


class StudiesFolder(LocalDatastore):
    """The folder of images. Names that a viewer gives are names of files, and nothing leads out of the folder."""

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take an image into the folder."""
        _require_name(image_id)
        return str(super().add_image(image_id, image_filename, image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Write a label, ``labels/<tag>/<image>.nii.gz``."""
        _require_name(image_id)
        _require_name(label_tag)
        if not self.get_image_uri(image_id):
            raise HTTPException(UNKNOWN, f"no image is called {image_id!r} in the folder of studies")
        return str(super().save_label(image_id, label_filename, label_tag, label_info))


class ServedModels(MONAILabelApp):
    """The app: one inference task a model, no training, no download."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        super().__init__(
            app_dir, studies, conf, name="SiteLoRA", description="Models of this site, exported by `sitelora export`"
        )

    def init_datastore(self) -> Datastore:
        """Return the folder of images."""
        return StudiesFolder(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, ServedModel]:
        """Return the models by name."""
        root = Path(self.conf[ROOT])
        return {name: ServedModel(root / name, self.conf) for name in self.conf[MODELS].split(",")}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> Any:
        """Return a mask's file and what is told of it.

        Raises:
            HTTPException: there is no such model or image, or no mask can be made of it; says why.
        """
        model, image = request.get("model"), request.get("image")
        if model not in self._infers:
            raise HTTPException(UNKNOWN, f"no model is called {model!r}; there are: {', '.join(self._infers)}")
        if isinstance(image, str) and not self._may_read(image):
            raise HTTPException(UNKNOWN, f"no image is called {image!r} in the folder of studies")
        try:
            return super().infer(request, datastore)
        except Exception as error:
            known = bool(self.datastore().get_image_uri(image)) if isinstance(image, str) else False
            name = image if known else "the image that was sent"
            raise HTTPException(NOT_POSSIBLE, f"{model}, {name}: {_said(error)}") from error

    def _may_read(self, image: str) -> bool:
        """Say whether an image is in the folder of studies, or was sent with the request."""
        if self.datastore().get_image_uri(image):
            return True
        path = Path(image)
        return path.is_absolute() and path.exists() and path.resolve().parent == Path(tempfile.gettempdir()).resolve()


def _require_name(text: str) -> None:
    if text and (text.startswith(".") or any(sign in text for sign in "/\\\0")):
        raise HTTPException(NOT_POSSIBLE, f"found {text!r} as a name, expected one without / and \\, and no dot first")


def _said(error: Exception) -> str:
    """Return what went wrong in one sentence; where a file lies on this machine is no business of a viewer's."""
    cause = behind(error)
    if isinstance(cause, UnfitFileError):
        return f"found {cause.found}, expected {cause.expected}; {cause.remedy}"
    if "state_dict" in str(error):
        return "what is served now has another network: start `sitelora label` anew"
    return str(cause or error) or type(error).__name__
