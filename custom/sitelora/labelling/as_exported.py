"""Which exported models a server is to show, and whether each still is what was exported.

MONAI Label itself asks little: without a model's file it starts and serves nothing; with half of the tensors it answers
with a mask of noise. So a folder is judged before anything starts, and all that is wrong is told at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitelora.bundle import bundle_path
from sitelora.disk import file_sha256
from sitelora.model_export.expected_code import strange_code
from sitelora.model_export.versions import (
    INFERENCE,
    LOGGING,
    METADATA,
    MODEL,
    Version,
    bundles_in,
    files_of,
    served_in,
)
from sitelora.serving.model_file import made_of
from sitelora.serving.open_model import open_model

SHOWN = "segmentation"
"""The task that a viewer shows: a mask."""
_BOTH_SAY = ("arch", "image_size", "classes", "slices", "pictures")
"""What the model's file and the frozen config say alike."""
_ANEW = "export it again, or copy the folder again"


class NotServedError(ValueError):
    """A model cannot be served; the message says which, why and what to do. Nothing was started."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a server is to show.

    Attributes:
        models: judged, by name. passed_over: sentences on what is there and is not shown.
    """

    models: tuple[Version, ...]
    passed_over: tuple[str, ...] = ()


def choose(root: Path, names: Sequence[str] = ()) -> Chosen:
    """Return the models of a folder that are to be shown, each as it was exported.

    Args:
        root: the folder of exported bundles. names: of bundles in it; without one, all that is served.

    Raises:
        NotServedError: there is none, or one of them is not what was exported: partial, of another size, changed.
    """
    if not root.is_dir():
        raise NotServedError(f"{root} is no folder; `sitelora export RUN --site NAME --out {root}` makes one")
    there = {each.name: each for each in bundles_in(root)}
    wrong, passed_over = list[str](), list[str]()
    if names:
        models = [there[name] for name in dict.fromkeys(names) if name in there]
        wrong += [_not_there(root, name, there) for name in dict.fromkeys(names) if name not in there]
    else:
        models = list(served_in(root).values())
        wrong += [f"{path}: {why}; {_ANEW}, or remove it" for path, why in _unreadable(root)]
    for model in [each for each in models if each.told["task"] != SHOWN]:
        said = f"{model.name} gives a {model.told['task']} and no mask: `sitelora predict {model.folder}` is for it"
        (wrong if names else passed_over).append(said)
        models.remove(model)
    wrong += [f"{model.folder}: {why}" for model in models if (why := changed(model))]
    if wrong:
        raise NotServedError("nothing was started: " + "; and ".join(wrong))
    if not models:
        raise NotServedError(_nothing(root, there, passed_over))
    return Chosen(models=tuple(models), passed_over=tuple(passed_over))


def changed(model: Version) -> str:
    """Return in what an exported bundle is not what was exported, and what to do; empty where it is."""
    config = model.folder / INFERENCE
    missing = [name for name in (INFERENCE, MODEL) if not (model.folder / name).is_file()]
    if missing:
        return f"only a part of it is there, {', '.join(missing)} not; {_back(model)}"
    try:
        made, frozen = made_of(model.model), json.loads(config.read_bytes())
        if not isinstance(frozen, dict):
            raise ValueError(f"{INFERENCE} is a {type(frozen).__name__}, expected an object")
    except (ValueError, RecursionError) as error:
        return f"{error}; {_back(model)}"
    other = [
        f"{key}={made[key]!r} where {INFERENCE} says {frozen.get(key)!r}"
        for key in _BOTH_SAY
        if key in made and key in frozen and made[key] != frozen[key]
    ]
    if other:
        return f"its model was made with {', '.join(other)}: it is another one's; {_back(model)}"
    for name, said in ((MODEL, "model_sha256"), (INFERENCE, "inference_sha256")):
        if file_sha256(model.folder / name) != model.told.get(said):
            return f"{name} is not the one that was exported (its sha256 is another one); {_back(model)}"
    if why := _code_of_another(model, frozen):
        return f"{why}: it was changed, or exported by another version of SiteLoRA; {_ANEW}"
    return ""


def _code_of_another(model: Version, frozen: Mapping[str, Any]) -> str:
    """Return what a bundle holds that MONAI would act on and no export of this SiteLoRA does; nothing is evaluated.

    The hashes do not say it: they lie in the same folder, and who changes one changes the other.
    """
    _, others = files_of(model.folder)
    if others:
        return f"it holds {others[0]}{' and more' if len(others) > 1 else ''}, which no export does"
    try:
        opened = open_model(model.folder, out=model.folder, device="cpu")
    except ValueError as error:
        return str(error)
    logging = model.folder / LOGGING
    if logging.is_file() and file_sha256(logging) != file_sha256(bundle_path(str(opened.made["bundle"])) / LOGGING):
        return f"{LOGGING} is not that of the installed bundle"
    if ids := strange_code(frozen, opened):
        return f"{INFERENCE} holds at {', '.join(ids[:3])} other code than the installed bundle"
    return ""


def _back(model: Version) -> str:
    """Return how to get a bundle back as it was exported."""
    if model.served_from:
        return f"`sitelora models {model.folder.parent} --serve {model.served_from}` writes it anew; else {_ANEW}"
    return _ANEW


def _not_there(root: Path, name: str, there: Mapping[str, Version]) -> str:
    if (root / name).is_dir():
        why = dict(_unreadable(root)).get(root / name, f"{METADATA} is not of an export of SiteLoRA")
        return f"{root / name}: {why}; {_ANEW}"
    return f"no model is called {name!r} in {root}; there are: {', '.join(there) or 'none'}"


def _nothing(root: Path, there: Mapping[str, Version], passed_over: Sequence[str]) -> str:
    if passed_over:
        return f"no model in {root} gives masks: {'; '.join(passed_over)}"
    if there:
        return f"no model in {root} is served; `sitelora models {root} --serve VERSION`, of: {', '.join(there)}"
    return f"no exported model in {root}; `sitelora export RUN --site NAME --out {root}` writes one"


def _unreadable(root: Path) -> list[tuple[Path, str]]:
    """Return the folders that look like a bundle and cannot say whose, with the reason."""
    found = []
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or not any((path / name).is_dir() for name in ("configs", "models")):
            continue
        try:
            json.loads((path / METADATA).read_bytes())
        except FileNotFoundError:
            found.append((path, f"only a part of a bundle, {METADATA} is not there"))
        except (OSError, ValueError) as error:
            found.append((path, f"{METADATA} cannot be read ({error})"))
    return found
