"""A real MONAI Label server of two sites' models, asked over REST; needs `.venv-label` (`make labelsetup`)."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from served_models import OBLIQUE
from sitelora.model_export.versions import serve
from sitelora.serving.many_images import predict_many
from sitelora.serving.outputs import Wanted

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = REPOSITORY / ".venv-label" / "bin" / "python"
OLDER, NEWER = (f"iat_prostate_site-1_{day}_segmentation" for day in ("20261126", "20261203"))
SITE_1, SITE_2 = "iat_prostate_site-1_segmentation", "iat_prostate_site-2_segmentation"
CASES = ("oblique", "one_slice", "case_01")

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        not PYTHON.exists(), reason="MONAI LABEL NOT TESTED: there is no .venv-label; `make labelsetup` makes it"
    ),
]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server, and the folders that it serves. home: of the user who started it."""

    process: subprocess.Popen[str]
    said: list[str]
    url: str
    exported: Path
    studies: Path
    home: Path

    def ask(self, path: str, *, method: str = "GET", **sent: bytes) -> bytes:
        """Return the answer's body; what is sent goes as files of a form."""
        mark = uuid.uuid4().hex
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="sent.nii.gz"\r\n\r\n'.encode()
            + content
            + b"\r\n"
            for name, content in sent.items()
        ]
        request = urllib.request.Request(self.url + path, method=method)
        if parts:
            request.data = b"".join(parts) + f"--{mark}--\r\n".encode()
            request.add_header("Content-Type", f"multipart/form-data; boundary={mark}")
        with urllib.request.urlopen(request, timeout=300) as answer:
            body: bytes = answer.read()
            return body

    def mask(self, model: str, image: str) -> nib.Nifti1Image:
        body = self.ask(f"/infer/{model}?image={image}&output=image", method="POST")
        return nib.Nifti1Image.from_bytes(gzip.decompress(body))

    def models(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("/info/"))["models"]
        return found

    def refusal(self, path: str, **how: Any) -> tuple[int, str]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.ask(path, **how)
        return caught.value.code, caught.value.read().decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def below(pid: int) -> list[int]:
    """Return the processes below one that still live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name = stat.read_text().rpartition(")")
            if int(name[2].split()[1]) == pid:
                found += [int(stat.parent.name), *below(int(stat.parent.name))]
    return found


@pytest.fixture(scope="module")
def server(two_sites: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("label")
    exported = shutil.copytree(two_sites, place / "exported")
    studies, home = place / "studies", place / "home"
    studies.mkdir()
    home.mkdir()
    values = np.random.default_rng(3).normal(300, 120, (40, 44, 9)).astype(np.int16)
    values[10:30, 12:34] += 250
    nib.save(nib.Nifti1Image(values, OBLIQUE), studies / "oblique.nii.gz")
    nib.save(nib.Nifti1Image(values[..., 4:5], np.diag([-0.6, -0.6, 3, 1])), studies / "one_slice.nii.gz")
    shutil.copyfile(
        next(iter(sorted((tiny_data / "prostate/site-1/images").glob("*.nii.gz")))), studies / "case_01.nii.gz"
    )
    port = free_port()
    nowhere = "http://127.0.0.1:9"  # whatever would be fetched fails
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("SITELORA", "XDG", "MPL", "TORCH"))},
        **{key: nowhere for key in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")},
        "no_proxy": "127.0.0.1,localhost",
        "HOME": str(home),
        "PYTHONPATH": str(REPOSITORY / "custom"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [str(PYTHON), "-m", "sitelora.cli", "label", str(exported), "--studies", str(studies)]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=place,
    )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line.rstrip())
        if "Ctrl-C stops it" in line:
            break
    running = Running(
        process=process, said=said, url=f"http://127.0.0.1:{port}", exported=exported, studies=studies, home=home
    )
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def predicted(model: Path, image: Path, out: Path) -> nib.Nifti1Image:
    (case,) = predict_many(model, [image], out=out, wanted=Wanted(), device="cpu")
    assert case.refused == ""
    return nib.load(case.files[0])


def values_of(image: nib.Nifti1Image) -> np.ndarray:
    return np.asanyarray(image.dataobj)


def test_it_says_where_it_is_and_what_it_serves(server: Running) -> None:
    assert server.process.poll() is None, "\n".join(server.said)
    assert server.said[0] == f"MONAI Label is at {server.url}"
    lines = [re.split(r"\s{2,}", line.strip()) for line in server.said[1:3]]
    assert [line[:3] for line in lines] == [
        [SITE_1, "site site-1", "2026-12-03"],
        [SITE_2, "site site-2", "2026-11-26"],
    ]
    assert all(re.fullmatch(r"Dice 0\.\d{3}", line[3]) for line in lines)
    assert len(server.said) == 4


def test_readers_tell_sites_and_versions_apart(server: Running) -> None:
    models = server.models()
    assert list(models) == [SITE_1, SITE_2]
    for name, words in ((SITE_1, "site-1, 2026-12-03"), (SITE_2, "site-2, 2026-11-26")):
        assert words in models[name]["description"]
        assert models[name]["labels"] == {"prostate": 1}
        assert models[name]["type"] == "segmentation"
        assert "model_filename" not in models[name]["config"]


@pytest.mark.parametrize("image", CASES)
def test_two_sites_give_two_masks_each_that_of_predict(server: Running, image: str, tmp_path: Path) -> None:
    masks = {}
    for model in (SITE_1, SITE_2):
        mask = server.mask(model, image)
        expected = predicted(server.exported / model, server.studies / f"{image}.nii.gz", tmp_path / model)
        np.testing.assert_array_equal(values_of(mask), values_of(expected))
        original = nib.load(server.studies / f"{image}.nii.gz")
        assert mask.shape == original.shape
        np.testing.assert_allclose(mask.affine, original.affine, atol=1e-5)
        assert mask.get_data_dtype() == np.uint8
        masks[model] = values_of(mask)
    assert (masks[SITE_1] != masks[SITE_2]).any()
    assert masks[SITE_1].any()


def test_an_image_that_is_sent_gets_the_same_mask(server: Running) -> None:
    body = (server.studies / "oblique.nii.gz").read_bytes()
    answer = server.ask(f"/infer/{SITE_1}?output=image", method="POST", file=body)
    mask = nib.Nifti1Image.from_bytes(gzip.decompress(answer))
    np.testing.assert_array_equal(values_of(mask), values_of(server.mask(SITE_1, "oblique")))


def test_going_back_while_it_runs_shows_the_older_mask_and_its_day(server: Running, tmp_path: Path) -> None:
    image = server.studies / "oblique.nii.gz"
    masks = {}
    for version in (OLDER, NEWER, OLDER, NEWER):
        copy, restart = serve(server.exported, version)
        assert not restart
        mask = values_of(server.mask(SITE_1, "oblique"))
        out = tmp_path / version
        if version not in masks:
            masks[version] = values_of(predicted(server.exported / version, image, out))
        np.testing.assert_array_equal(mask, masks[version])
        told = json.loads(server.ask(f"/infer/{SITE_1}?image=oblique&output=json", method="POST"))
        assert told["version"] == version
        assert f"site-1, {copy.told['date']}" in server.models()[SITE_1]["description"]
    assert (masks[OLDER] != masks[NEWER]).any()


def test_the_line_of_the_engineers_page_runs(server: Running, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "hospital-engineer.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ {4}(curl .+)$", page, re.MULTILINE)
    line = line.replace("http://127.0.0.1:8000", server.url)
    if shutil.which("curl") is None:
        pytest.skip("NOT TESTED: curl is not installed here")
    subprocess.run(shlex.split(line), cwd=tmp_path, check=True)
    mask = nib.load(tmp_path / "mask.nii.gz")
    original = nib.load(server.studies / "case_01.nii.gz")
    assert mask.shape == original.shape
    np.testing.assert_allclose(mask.affine, original.affine, atol=1e-5)


def test_a_label_is_put_fetched_and_lies_where_the_page_says(server: Running) -> None:
    image = nib.load(server.studies / "case_01.nii.gz")
    label = nib.Nifti1Image((np.indices(image.shape)[0] > 5).astype(np.uint8), image.affine)
    sent = gzip.compress(label.to_bytes())
    said = json.loads(server.ask("/datastore/label?image=case_01&tag=final", method="PUT", label=sent))
    assert said["label"] == "case_01"
    assert server.ask("/datastore/label?label=case_01&tag=final") == sent
    file = server.studies / "labels" / "final" / "case_01.nii.gz"
    np.testing.assert_array_equal(values_of(nib.load(file)), values_of(label))
    assert json.loads(server.ask("/datastore/?output=train"))[0]["label"] == str(file)


@pytest.mark.parametrize("sent", [b"no image, a text", "other shape"], ids=["text", "shape"])
def test_it_takes_anything_as_a_label_so_who_reads_it_back_has_to_judge(server: Running, sent: Any) -> None:
    if sent == "other shape":
        sent = gzip.compress(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)).to_bytes())
    server.ask("/datastore/label?image=oblique&tag=final", method="PUT", label=sent)
    assert (server.studies / "labels" / "final" / "oblique.nii.gz").read_bytes() == sent


@pytest.mark.parametrize("name", ["../../outside", "..", "a/b", ".hidden"])
def test_a_name_leads_nowhere_else(server: Running, name: str) -> None:
    before = sorted(server.studies.parent.glob("*"))
    quoted = urllib.parse.quote(name, safe="")
    body = (server.studies / "oblique.nii.gz").read_bytes()
    assert server.refusal(f"/datastore/image?image={quoted}", method="PUT", file=body)[0] == 422
    assert server.refusal(f"/datastore/label?image=oblique&tag={quoted}", method="PUT", label=body)[0] == 422
    assert sorted(server.studies.parent.glob("*")) == before


def test_what_cannot_be_answered_is_told_with_the_reason(server: Running, tmp_path: Path) -> None:
    flat = nib.Nifti1Image(np.zeros((20, 20, 4), np.int16), np.eye(4))
    holes = nib.Nifti1Image(np.full((20, 20, 4), np.nan, np.float32), np.eye(4))
    for image, why in ((flat, "found the same value 0 everywhere"), (holes, "NaN")):
        sent = gzip.compress(image.to_bytes())
        code, said = server.refusal(f"/infer/{SITE_1}?output=image", method="POST", file=sent)
        assert code == 422
        assert why in said
        assert "the image that was sent" in said
        assert str(server.exported) not in said
    outside = tmp_path / "outside.nii.gz"
    shutil.copyfile(server.studies / "oblique.nii.gz", outside)
    for image in ("nobody", str(outside)):
        code, said = server.refusal(f"/infer/{SITE_1}?image={image}&output=image", method="POST")
        assert (code, "no image is called" in said) == (404, True)
    code, said = server.refusal("/infer/x?image=oblique&output=image", method="POST")
    assert (code, SITE_2 in said) == (404, True)


def test_no_page_of_another_origin_may_read(server: Running) -> None:
    request = urllib.request.Request(f"{server.url}/info/", headers={"Origin": "http://elsewhere.example"})
    with urllib.request.urlopen(request) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") is None


def test_a_second_server_on_the_port_is_refused(server: Running) -> None:
    command = [str(PYTHON), "-m", "sitelora.cli", "label", str(server.exported), "--studies", str(server.studies)]
    done = subprocess.run(
        [*command, "--port", server.url.rpartition(":")[2]],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "custom")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "cannot be taken" in done.stderr


def test_where_monai_label_is_missing_the_goal_that_brings_it_is_named(server: Running) -> None:
    command = [sys.executable, "-m", "sitelora.cli", "label", str(server.exported), "--studies", str(server.studies)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY / "custom")}
    )
    assert done.returncode == 2
    assert "make label MODELS=DIR STUDIES=DIR" in done.stderr


def test_ctrl_c_ends_it_with_nothing_left(server: Running) -> None:
    """The last test of this file."""
    children = below(server.process.pid)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=60) == 0
    assert server.process.stdout is not None
    assert server.process.stdout.read().strip() == "stopped"
    time.sleep(0.1)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))):
        pass
    assert list(server.home.rglob("*")) == [], "nothing is kept in the home folder"
    app = server.exported / ".label"
    assert list(app.glob("requests-*")) == [], "nothing of a request is left"
    assert (app / "logs" / "server.log").stat().st_size > 0
