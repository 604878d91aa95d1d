"""A served model knows how it was made: ``{"model": state, "made": {...}}``, plain values only.

Serving needs the network's sizes before it can load a single tensor. They stand in the file itself, so that a model
opens with no more than its own path, and a wrong bundle is told in one sentence instead of a list of tensor shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from sitelora.bundle import bundle_names, bundle_path, require_checkpoint
from sitelora.data.errors import first_few
from sitelora.data.trained_on import TrainedOn
from sitelora.disk import GIVE_RIGHT, NOT_READABLE, is_absent
from sitelora.names import checked_name
from sitelora.networks.before_built import parts_before
from sitelora.networks.tensor_file import MADE as MADE
from sitelora.networks.tensor_file import STANDARD, damaged_part, unusable
from sitelora.task_registry import find_task
from sitelora.value_kinds import require_plain

NEEDED = ("bundle", "arch", "image_size", "classes", "labels", "pictures", "slices")
"""What every model says of itself, beside what the run that made it adds."""
RANGES = "trained_on"
"""What most models also say: between which numbers the images lie that they were trained on."""
_OF_THE_NETWORK = ("arch", "image_size", "classes")
DECISION = "decision"
"""What a classification's model also says: how its logits become probabilities and a class."""
_WHOLE = {"image_size": (8, 1024), "classes": (1, 255), "slices": (1, 128)}
"""Bounds of settings.json."""
LABELS = "labels"
_WORDS = ("hospital", "modality")
"""What people called something: shown, and put into no config."""
_NAMES = ("federation", "uid", "site")
"""What else it says, where a federation made it: as of `sitelora.names`, because they name folders."""
_KINDS: Mapping[Any, type] = {
    **dict.fromkeys(("bundle", "arch", *_WORDS), str),
    "pictures": bool,
    DECISION: dict,
}
_AGAIN = "expected a personal.pt of a site or a model.pt of this bundle, whole: copy it again"
_PLAIN = (str, int, float, bool, type(None))


def described(**values: Any) -> dict[str, Any]:
    """Return what a model file says of how it was made, as values that any reader takes.

    Args:
        values: bundle, arch, image_size, classes, labels (value to name), pictures, slices, and whatever a run adds.

    Raises:
        ValueError: something needed is missing, or a value is no plain one.
    """
    missing = [key for key in NEEDED if key not in values]
    if missing:
        raise ValueError(f"a model that does not say {', '.join(missing)} cannot be opened by itself; give them")
    return {key: _plain(key, value) for key, value in values.items()}


def made_of(path: str | Path, *, bundle: str | None = None) -> dict[str, Any]:
    """Return how the model in a file was made; nothing where there is no file or it is older than this.

    Args:
        path: of the model. bundle: the one that is to open it; without it, the one that the model names.

    Raises:
        ValueError: the file is damaged, is no model of SiteLoRA, or was made with another bundle.
    """
    file = Path(path)
    if is_absent(file):
        return {}
    content = _content(file)
    made = content.get(MADE) or {}
    if not isinstance(made, Mapping):
        raise ValueError(f"{file} says as a {type(made).__name__} how it was made, {_AGAIN}")
    bundle = bundle if bundle is not None else str(made.get("bundle"))
    if made and made.get("bundle") != bundle:
        raise ValueError(
            f"{file} was made with the bundle {made.get('bundle')}, this is {bundle}: open it with that bundle's "
            "configs/inference.json and --bundle_root"
        )
    said = {key: f"{key}={made[key]!r:.40}" if key in made else f"no {key}" for key in (*NEEDED, *made)}
    wrong = [said[key] for key in said if made and not _sound(made, key)]
    if wrong:
        raise ValueError(f"{file} says {', '.join(wrong)} of how it was made, which no model has; {_AGAIN}")
    if made and bundle not in bundle_names():
        raise ValueError(
            f"{file} was made with the bundle {bundle!r:.80}, which this SiteLoRA does not have: update it"
        )
    if made and (why := _unanswerable(made, bundle)):
        spoken_of = [said[key] for key in (*_OF_THE_NETWORK, DECISION, LABELS) if key in why] or [said["arch"]]
        raise ValueError(f"{file} says {', '.join(spoken_of)} of how it was made ({why}); {_AGAIN}")
    return dict(made)


def trained_on(made: Mapping[str, Any]) -> TrainedOn | None:
    """Return between which numbers a model's training images lie; None where its file is older than this."""
    return TrainedOn.from_plain(made[RANGES]) if RANGES in made else None


def require_model(path: str | Path, *, bundle: str) -> None:
    """End the command where a file is no model for this bundle: its last line is one sentence that says why.

    An error inside a bundle's expression would end in MONAI's own words, below fifty lines of traceback.

    Args:
        path: of the model. bundle: the one that is to open it.

    Raises:
        SystemExit: no file, a damaged one, another bundle's, or one that says nothing sound of how it was made.
    """
    try:
        made_of(require_checkpoint(path), bundle=bundle)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


def require_fit(path: str | Path, network: nn.Module) -> None:
    """End the command where the tensors of a model are not those of the network that is to take them.

    Args:
        path: of the model. network: as the model says it was made, or as somebody has set it.

    Raises:
        SystemExit: with the first tensors that are missing, too many, of another shape, or no finite numbers.
    """
    state, expected = _content(Path(path))["model"], network.state_dict()
    missing = [name for name in expected if name not in state]
    if missing and all(name.startswith(STANDARD) for name in missing):
        raise SystemExit(
            f"{path} was made by a SiteLoRA from before {STANDARD}* (see CHANGELOG.md): open it with that version, "
            "or name it as the base of a new run"
        )
    wrong = [f"{name} is missing" for name in missing]
    for name, value in state.items():
        want = expected.get(name)
        if want is None:
            wrong.append(f"{name} is not a tensor of it")
        elif not isinstance(value, Tensor) or value.shape != want.shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            wrong.append(f"{name} is {found} and not {tuple(want.shape)}")
        elif want.is_floating_point() and (why := unusable(value)):
            wrong.append(f"{name}: {why}")
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SystemExit(
            f"{path} does not fit the network: {'; '.join(wrong[:3])}{more}. Set nothing that the model says itself "
            f"(arch, image_size, classes); else it is damaged or was made with another bundle: {_AGAIN}"
        )


def _content(file: Path) -> Mapping[str, Any]:
    """Return what a model file holds, without executing anything of it.

    Raises:
        ValueError: damaged, also in a single byte, or no model.
    """
    try:
        if part := damaged_part(file):
            raise ValueError(f"the checksum of {part} is wrong")
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError as error:
        raise ValueError(f"{file} is {NOT_READABLE}; {GIVE_RIGHT}") from error
    except Exception as error:
        why = f"{error}" if type(error) is ValueError else type(error).__name__
        raise ValueError(f"{file} is no model that can be opened ({why}); {_AGAIN}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        found = sorted(map(str, content))[:5] if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{file} holds {found}, expected a model of SiteLoRA (a personal.pt of a site)")
    return content


def _unanswerable(made: Mapping[str, Any], bundle: str) -> str:
    """Return why a model cannot answer as it says that it was made; empty where it can.

    It names no such network, other labels than the network tells apart, or no such decision.
    """
    config = ConfigParser()
    config.read_config(str(bundle_path(bundle) / "configs" / "train.json"))
    for key in _OF_THE_NETWORK:
        config[key] = made[key]
    try:
        parts_before(config)
    except ValueError as error:
        return str(error)
    task, classes = find_task(config["task"]), int(made["classes"])
    values, expected = sorted(map(int, made[LABELS])), list(range(classes if task.truth == "class" else classes + 1))
    if values != expected:
        found = first_few([*map(str, values)]) or "none"
        return f"{LABELS}: the values {found}, expected 0 to {expected[-1]}, as classes says"
    try:
        task.decide(np.zeros(classes), made.get(DECISION, {}))
    except ValueError as error:
        return f"{DECISION}: {error}"
    return ""


def _sound(made: Mapping[str, Any], key: Any) -> bool:
    """Say whether a value of how a model was made is one that a model can have, and nothing that a config acts on."""
    value = made.get(key)
    try:
        if key == LABELS:
            return isinstance(value, Mapping) and all(
                str(number).isdecimal() and isinstance(name, str) for number, name in value.items()
            )
        if key not in _WORDS:
            require_plain({key: value}, MADE)
        if key in _NAMES:
            return bool(checked_name(key, value))
        if key == RANGES:
            return bool(TrainedOn.from_plain(value))
    except ValueError:
        return False
    if key in _WHOLE:
        least, most = _WHOLE[key]
        return type(value) is int and least <= value <= most
    return isinstance(value, _KINDS.get(key, object))


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(f"{key}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(key, inner) for inner in value]
    if not isinstance(value, _PLAIN):
        raise ValueError(f"{key} is a {type(value).__name__}, expected plain values in a model file")
    return value
