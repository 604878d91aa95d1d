"""What a site's network may stand on by its policy: the file that is there counts, not what it is called."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from sitelora.bundle import EMBEDDED
from sitelora.federation.refusals import code_of
from sitelora.federation.site import Site
from sitelora.federation.site_settings import SiteError, SiteSettings
from sitelora.networks.tensor_file import embedded_file, file_sha256
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


def test_strict_alone_lists_bases() -> None:
    assert [Policy.of_level(level).bases for level in LEVELS] == [None, None, (EMBEDDED,)]


def test_a_job_does_not_learn_which_files_a_site_has(tiny_data: Path, tmp_path: Path) -> None:
    patient = tmp_path / "patient.nii.gz"
    patient.write_bytes(b"x" * 100)
    codes = set()
    for named in (patient, tmp_path / "absent.nii.gz", Path("/dev/zero"), tmp_path):
        with pytest.raises((SiteError, FileNotFoundError)) as refused:
            site(tiny_data, tmp_path, [EMBEDDED], base=str(named))
        codes.add(code_of(refused.value))
    assert codes == {"base_missing"}
