"""A synthetic run: six prostate sites, five rounds, with drawn overlays, as the server and the sites write it."""

import json
from pathlib import Path

import numpy as np
import pytest

from sitelora.evaluation.scores import summarise
from sitelora.run_result import CaseScore
from sitelora.task import best_median_worst
from sitelora.tasks.masks.case_picture import draw_case
from sitelora.tasks.masks.metrics import case_metrics
from sitelora.tasks.segmentation import TASK
from sitelora.typed_json import from_json, to_json

HOSPITALS = {
    "site-1": "phantom RUNMC",
    "site-2": "phantom BMC",
    "site-3": "phantom I2CVB",
    "site-4": "phantom UCL",
    "site-5": "phantom BIDMC",
    "site-6": "phantom HK",
}
LABELS = {1: "prostate"}
SCORING = to_json(TASK.scoring)
BEGIN = {"begin_bytes_up": 123_904}
SPACING_MM = (0.6, 0.6, 3.0)
AFFINE = np.diag([-0.6, -0.6, 3.0, 1.0])  # an LPS volume, as scanners write it
SERVED = [
    {"model": "received", "round": 5, "validation": 0.911, "validation_received": 0.911, "why": "best by validation"},
    {"model": "trained", "round": 4, "validation": 0.876, "validation_received": 0.862, "why": "best by validation"},
    {"model": "previous", "round": 2, "validation": None, "why": "kept"},
]
SKILL = {"base": 0.12, "personal": 0.9, "unseen": 0.6}


def make_run(folder: Path, *, sites=tuple(HOSPITALS), rounds=5, cases=3, overlays=True, seed=0) -> dict:
    """Write ``server/result.json`` and every site's ``evaluation`` and return the former."""
    rng = np.random.default_rng(seed)
    result = {
        "format": 2,
        **SCORING,
        "completed": True,
        "federation": "iat_prostate",
        "uid": "20261120-081502-6f3a",
        "method": "iat",
        "paper": "arXiv:2606.08687",
        "bundle": "iat_segmentation",
        "dataset": "prostate_phantom",
        "seed": 0,
        "rounds_planned": rounds,
        "rounds_done": rounds,
        "versions": {"sitelora": "0.1.0", "torch": "2.13.0", "monai": "1.6.1", "nvflare": "2.9.0"},
        "hardware": {"machine": "x86_64 Linux", "cores": 2, "torch_threads": 1},
        "base": {"name": "sam_tiny", "sha256": "4be0d9a8f17e46c7" * 4},
        "image_size": 128,
        "sites": {
            site: {"hospital": HOSPITALS.get(site, site), "cases": {"training": 8, "validation": 2, "test": cases}}
            | BEGIN
            for site in sites
        },
        "egress": egress(),
        "rounds": [one_round(number, sites, rng) for number in range(rounds)],
        "evaluation": {},
        "warnings": [],
    }
    if rounds > 2 and len(sites) > 3:
        result["rounds"][2]["sites"]["site-4"] |= {
            "status": "missing",
            "reason": "no answer within 1800 s",
            "bytes_up": 0,
            "metrics": {},
        }
        result["warnings"].append("round 3: site-4 missing: no answer within 1800 s")
    for position, site in enumerate(sites):
        result["evaluation"][site] = evaluate(folder / site / "evaluation", site, position, cases, overlays, rng)
    (folder / "server").mkdir(parents=True, exist_ok=True)
    (folder / "server" / "result.json").write_text(json.dumps(result))
    return result


def egress() -> dict:
    encoder = [
        {"name": f"image_encoder.blocks.{block}.attn.qkv.{part}.B", "shape": [192, 8], "bytes": 3072}
        for block in range(12)
        for part in "qv"
    ]
    decoder = [
        {"name": f"mask_decoder.transformer.layers.{layer}.{where}.{part}_proj.A", "shape": [8, 256], "bytes": 4096}
        for layer in range(2)
        for where in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
        for part in "qv"
    ]
    return {
        "shared": [*encoder, *decoder, {"name": "mask_decoder.mask_tokens.weight", "shape": [2, 256], "bytes": 1024}],
        "local_count": 36,
        "local_bytes": 159_744,
        "frozen_count": 214,
        "full_model_bytes": 19_482_624,
    }


def one_round(number: int, sites, rng) -> dict:
    entries = {}
    for position, site in enumerate(sites):
        grown = 1 - np.exp(-(number + 0.4) / 1.6)
        personal = (0.92 - 0.04 * position) * grown + rng.normal(0, 0.015)
        received = personal - 0.3 * np.exp(-number / 2.5) - 0.03 + rng.normal(0, 0.01)
        entries[site] = {
            "status": "ok",
            "reason": "",
            "cases": 8,
            "bytes_up": 123_904,
            "bytes_down": 123_904,
            "seconds": round(float(7 + rng.random() * 2), 2),
            "metrics": {
                "loss": float(0.9 - 0.7 * grown),
                "score_received": float(np.clip(received, 0.02, 1)),
                "score_personal": float(np.clip(personal, 0, 1)),
                "score_served": float(np.clip(max(personal, received), 0, 1)),
                "regularizer_share": 0.25 / (number + 1),
            },
        }
    return {"round": number, "seconds": 11.4 + number / 10, "sites": entries, "server": {"weight": 1.0}}


def evaluate(folder: Path, site: str, position: int, cases: int, overlays: bool, rng) -> dict:
    """Predict drawn prostates more or less well, score them, and draw the best, median and worst."""
    volumes = {f"Case{position * cases + n:02d}": volume(rng) for n in range(cases)}
    block, predicted = {"global": {"not_applicable": "every site keeps encoder A and decoder B to itself"}}, {}
    for model, skill in SKILL.items():
        scores = []
        for name, (_, truth) in volumes.items():
            fit = np.clip(skill - 0.05 * position * (model != "base") + rng.normal(0, 0.07), 0.02, 0.97)
            prediction = predicted[model, name] = predict(truth, fit, rng)
            metrics = case_metrics(prediction, truth, labels=LABELS, spacing_mm=SPACING_MM)
            scores.append(CaseScore(case=name, patient=f"p{name[4:]}", metrics=metrics))
        block[model] = summarise(scores, TASK.primary)
    block["personal"]["served"] = SERVED[position % len(SERVED)]
    listed = []
    if overlays:
        scores = [from_json(CaseScore, case) for case in block["personal"]["cases"]]
        for which, score in best_median_worst(scores, TASK.primary).items():
            image, truth = volumes[score.case]
            draw_case(
                image,
                truth,
                predicted["personal", score.case],
                folder / "overlays" / f"{which}.png",
                title=f"{site} · {score.case}",
                labels=LABELS,
                spacing_mm=SPACING_MM,
                affine=AFFINE,
            )
            told = {"file": f"overlays/{which}.png", "case": score.case, "which": which}
            listed.append(told | {"model": "personal", "score": score.mean("dice")})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(block | SCORING | {"overlays": listed}))
    return block


def volume(rng):
    """Return a T2-like image and its label, ``[96, 96, 10]``."""
    x, y, z = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 96), np.linspace(-1, 1, 10), indexing="ij")
    wobble = 0.05 * np.cos(3 * np.arctan2(y, x) + rng.uniform(0, 6))
    centre = rng.uniform(-0.08, 0.08, 2)
    radius = np.hypot((x - centre[0]) / 1.15, y - centre[1]) + wobble
    truth = (radius < 0.36 * np.sqrt(np.clip(1 - (z / 0.9) ** 2, 0, 1))).astype(np.uint8)
    body = np.hypot(x / 0.95, y / 0.75) < 1
    image = 90.0 * body + 70 * truth + 30 * (radius < 0.18) * truth - 60 * (np.hypot(x, y - 0.55) < 0.16)
    coil = 1.2 - 0.3 * y
    return image * coil + rng.normal(0, 9, image.shape), truth


def predict(truth, fit, rng):
    """Return a mask whose overlap with the truth grows with ``fit``."""
    shift = round((1 - fit) * 22)
    moved = np.roll(truth, (shift, -shift // 2), axis=(0, 1))
    moved[..., : round((1 - fit) * 4)] = 0
    return moved


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory) -> Path:
    """A complete run of six sites, to be read and not written."""
    folder = tmp_path_factory.mktemp("run")
    make_run(folder)
    return folder


@pytest.fixture
def maker():
    """The function that writes a run."""
    return make_run
