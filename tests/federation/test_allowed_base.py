"""What a site's network may stand on by its policy: the file that is there counts, not what it is called."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sitelora.bundle import EMBEDDED, PUBLISHED
from sitelora.disk import file_sha256
from sitelora.federation.refusals import code_of
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteError, SiteSettings
from sitelora.networks.tensor_file import MADE, embedded_file
from sitelora.policy.site_policy import LEVELS, Policy
from small_network import SMALL

NOT_READ = {"slices": 3, **SMALL}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Give a checkpoint file that is not called like one of ours."""
    return Path(shutil.copyfile(embedded_file("sam_tiny"), tmp_path / "handed_out.safetensors"))


def site(data: Path, home: Path, bases: Any, *, base: Any = EMBEDDED, own: Any = None) -> Site:
    return Site(
        SiteSettings(
            site="site-1",
            federation="f",
            uid="u",
            bundle="iat_segmentation",
            data=data / "prostate" / "site-1",
            home=home,
            overrides={**NOT_READ, "base": base},
            site_values={} if own is None else {"base": own},
            bases=bases,
        )
    )


def test_a_listed_base_is_taken_and_another_one_refused(tiny_data: Path, tmp_path: Path, base: Path) -> None:
    site(tiny_data, tmp_path, None, base=str(base))
    site(tiny_data, tmp_path, [file_sha256(base)], base=str(base))
    site(tiny_data, tmp_path, [EMBEDDED])
    file, sha256 = str(base), file_sha256(base)
    for bases, named in (([EMBEDDED], file), (["0" * 64], file), ([sha256], EMBEDDED), ([], EMBEDDED)):
        with pytest.raises(SiteError, match="bases: the network would stand on") as refused:
            site(tiny_data, tmp_path, bases, base=named)
        assert code_of(refused.value) == "base_missing"
        assert (f"sha256: {sha256}" in str(refused.value)) == (named != EMBEDDED)


def test_the_sites_own_base_counts_whatever_the_job_names(tiny_data: Path, tmp_path: Path, base: Path) -> None:
    site(tiny_data, tmp_path, [EMBEDDED], base=str(base), own=EMBEDDED)
    with pytest.raises(SiteError, match="would stand on"):
        site(tiny_data, tmp_path, [EMBEDDED], base=EMBEDDED, own=str(base))


def test_seeded_values_are_nobodys_base(tiny_data: Path, tmp_path: Path) -> None:
    site(tiny_data, tmp_path, [], base=None)


def test_levels_say_what_may_be_stood_on() -> None:
    assert [Policy.of_level(level).bases for level in LEVELS] == [None, (PUBLISHED,), (EMBEDDED,)]


def left_by_a_federation(path: Path, *, old: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = load_file(embedded_file("sam_tiny"))
    made = {"bundle": "iat_segmentation", "arch": "sam_tiny"}
    torch.save({"model": tensors, MADE: made}, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("place", ["elsewhere/model.pt", "home/other/run-1/site-1/models/personal.pt"])
def test_a_job_names_no_model_that_a_federation_left(tiny_data: Path, tmp_path: Path, place: str, old: bool) -> None:
    """It would leave again as initial values, which nothing clips because they hold no data."""
    home, model = tmp_path / "home", left_by_a_federation(tmp_path / place, old=old)
    with pytest.raises(SiteError, match="which a job may not name") as refused:
        site(tiny_data, home, [PUBLISHED], base=str(model))
    assert code_of(refused.value) == "base_missing"
    site(tiny_data, home, [PUBLISHED], base=str(model), own=str(model))
    site(tiny_data, home, [PUBLISHED, file_sha256(model)], base=str(model))
    site(tiny_data, home, None, base=str(model))


def test_a_job_names_nothing_of_a_sites_home(tiny_data: Path, tmp_path: Path, base: Path) -> None:
    home = tmp_path / "home"
    state = home / "other" / "run-1" / "site-1" / "state.safetensors"
    state.parent.mkdir(parents=True)
    shutil.copyfile(base, state)
    (tmp_path / "link").symlink_to(home / "other")
    for named in (state, tmp_path / "link" / "run-1" / "site-1" / "state.safetensors"):
        with pytest.raises(SiteError, match="own home, which a job may not name"):
            site(tiny_data, home, [PUBLISHED], base=str(named))


def test_what_is_published_is_taken(tiny_data: Path, tmp_path: Path, base: Path) -> None:
    for named in (EMBEDDED, str(base), None):
        site(tiny_data, tmp_path / "home", [PUBLISHED], base=named)


def test_a_job_does_not_learn_which_files_a_site_has(tiny_data: Path, tmp_path: Path) -> None:
    patient = tmp_path / "patient.nii.gz"
    patient.write_bytes(b"x" * 100)
    codes = set()
    for named in (patient, tmp_path / "absent.nii.gz", Path("/dev/zero"), tmp_path):
        for bases in ([EMBEDDED], [PUBLISHED]):
            with pytest.raises((SiteError, FileNotFoundError, RuntimeError)) as refused:
                site(tiny_data, tmp_path / "home", bases, base=str(named)).network  # noqa: B018
            codes.add(code_of(refused.value))
    assert codes == {"base_missing"}
