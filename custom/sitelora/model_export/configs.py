"""An exported bundle's configs: the installed bundle's inference with the run's values in it, and its metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import sitelora
from sitelora.model_export.model_of_run import ModelOfRun
from sitelora.model_export.versions import OURS
from sitelora.report.format_values import count_text
from sitelora.run_result import ModelScore
from sitelora.serving.inference_config import installed_config
from sitelora.serving.model_file import MADE
from sitelora.serving.open_model import OpenModel
from sitelora.value_kinds import require_plain

_SAID_BY_THE_MODEL = re.compile(r"@made\b")
LABEL = "0.8.5"
"""The MONAI Label that the exported bundles are tried with."""


def frozen_inference(model: OpenModel, *, line: str, site: str, dataset: str) -> dict[str, Any]:
    """Return inference.json with every value in place of the expression that asks the model for it.

    Versions that differ in nothing but the model have the same one: a running MONAI Label needs no other.

    Args:
        model: opened. line: what all its versions have in common in their names. site: whose it is.
        dataset: that the site trained on; empty where it is not known. All three are names (`sitelora.names`).
    """
    config = model.content
    frozen: dict[str, Any] = {key: _frozen(value, key, model) for key, value in config.items() if key != MADE}
    if f'"@{MADE}"' in json.dumps(frozen):  # a handler that wants to know how answers are named and decided
        frozen = {MADE: {key: model.made[key] for key in ("labels", "decision") if key in model.made}, **frozen}
        require_plain(frozen[MADE], f"{model.file}: names of classes")
    frozen["imports"] = [line for line in config["imports"] if not line.endswith("made_of")]
    frozen["output_dir"] = f"$str(home() / 'runs' / '{line}' / 'inference')"
    if dataset:
        frozen["dataset_dir"] = f"$str(data_root() / '{dataset}' / '{site}')"
    return frozen


def metadata(model: OpenModel, *, origin: ModelOfRun, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return metadata.json: the installed bundle's, about this very model.

    Args:
        model: opened. origin: where it is from. hashes: of the files that a server has to find as they were exported.
    """
    told, made = installed_config(str(model.made["bundle"]), "metadata"), origin.made
    labels = ", ".join(f"{value} {name}" for value, name in sorted(model.labels.items()))
    whose = f"{origin.federation}: {origin.words}, {origin.date}"
    score = _score_text(origin)
    told.update(
        name=whose,
        task=f"{origin.task}: {labels}",
        description=f"{whose}, run {origin.uid}, method {made.get('method', '?')}"
        + (f", at {made['hospital']}" if made.get("hospital") else "")
        + (f". {score}" if score else ". Not scored on test cases")
        + ". For research; not a medical device.",
        version=sitelora.__version__,
        changelog={sitelora.__version__: f"Exported from run {origin.uid} of federation {origin.federation}"},
        data_source=f"images of {origin.site}, which stay there",
        data_type="PNG pictures" if model.pictures else "NIfTI volumes",
        image_classes="intensities scaled to 0..1 by percentiles",
        label_classes=labels,
        pred_classes=f"{len(model.labels)} channels: {labels}",
        eval_metrics=_metrics(origin.score, origin.run.primary.name),
        supported_apps={"monai-label": LABEL},
        network_data_format=_data_format(told["network_data_format"], model),
    )
    told[OURS] = {
        "line": origin.line,
        "task": origin.task,
        "date": origin.date,
        "federation": origin.federation,
        "uid": origin.uid,
        "site": origin.site,
        "hospital": made.get("hospital", ""),
        "model": origin.kind,
        "method": made.get("method", ""),
        "bundle": made["bundle"],
        "score": origin.score.score if origin.score is not None else None,
        "score_name": origin.run.primary.title,
        "cases": origin.score.case_count if origin.score is not None else 0,
        **hashes,
        **{key: made[key] for key in ("bundle_sha256", "settings_sha256", "base_sha256") if made.get(key)},
    }
    require_plain(told, f"{origin.file}: names of labels, hospital or modality")  # MONAI acts on some signs
    return told


def _frozen(value: Any, id: str, model: OpenModel) -> Any:
    if isinstance(value, Mapping):
        return {key: _frozen(inner, f"{id}#{key}", model) for key, inner in value.items()}
    if isinstance(value, list):
        return [_frozen(inner, f"{id}#{place}", model) for place, inner in enumerate(value)]
    if isinstance(value, str) and value != f"@{MADE}" and _SAID_BY_THE_MODEL.search(value):
        return model.config.get_parsed_content(id)
    return value


def _data_format(told: Mapping[str, Any], model: OpenModel) -> dict[str, Any]:
    """Return what goes into the network and comes out of it, with the run's sizes and labels."""
    shape = {"spatial_shape": list(model.config.get_parsed_content("patch_size"))}
    image: dict[str, Any] = {**told["inputs"]["image"], **shape}
    if model.made.get("modality"):
        image["modality"] = str(model.made["modality"])
    if model.trained_on is not None:
        image["num_channels"] = count = max(model.trained_on.channels)
        if count in (1, 3):
            image["channel_def"] = {str(place): "image" if count == 1 else "RGB"[place] for place in range(count)}
    pred: dict[str, Any] = {**told["outputs"]["pred"], "num_channels": len(model.labels)}
    pred["channel_def"] = {str(value): name for value, name in sorted(model.labels.items())}
    if "spatial_shape" in pred and len(pred["spatial_shape"]) == len(told["inputs"]["image"]["spatial_shape"]):
        pred.update(shape)
    return {"inputs": {"image": image}, "outputs": {"pred": pred}}


def _metrics(score: ModelScore | None, primary: str) -> dict[str, float]:
    """Return the site's own scores by name; of several labels also each label's."""
    if score is None or score.score is None:
        return {}
    found = {f"mean_{primary}": score.score}
    for label, values in score.labels.items():
        found.update({f"{label}_{name}": value for name, value in values.items() if value is not None})
    found.update({name: value for name, value in score.set_scores.items() if value is not None})
    return {name: round(value, 4) for name, value in found.items()}


def _score_text(origin: ModelOfRun) -> str:
    """Return a sentence on the model's score; empty without one."""
    score, metric = origin.score, origin.run.primary
    if score is None:
        return ""
    cases = count_text(score.case_count or 0, "test case")
    interval = f" (95 % interval {' to '.join(map(metric.text, score.interval))})" if score.interval else ""
    return f"Mean {metric.title} {metric.text(score.score)}{interval} on {cases} of the site"
