"""The rules of images and labels, each with its right value, through the reader that training uses."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged, ScaleIntensityRangePercentilesd
from PIL import Image

from sitelora.data.intensity import ScalePercentilesd
from sitelora.data.rules import UnfitFileError, read_image, read_label, same_grid, slices_of
from sitelora.data.site_reader import SiteReader

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def picture(path: Path, values: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path, "png", **options)
    return path


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (6, 5, 4)).astype(np.int16)


def loaded(path: Path, kind: str = "image") -> torch.Tensor:
    return LoadImaged("x", reader=SiteReader(kind))({"x": str(path)})["x"]


def test_three_channels_of_a_volume_are_said_unless_they_are_colours_for_certain(
    tmp_path: Path, noise: np.ndarray
) -> None:
    three = np.stack([noise, noise // 2, noise + 1], -1)
    (remark,) = read_image(volume(tmp_path / "a.nii", three)).remarks
    assert "taken as the colours of one image" in remark
    assert read_image(volume(tmp_path / "a.nii", three.astype(np.float32))).remarks == (remark,)
    assert read_image(volume(tmp_path / "a.nii", three.astype(np.uint8))).remarks == ()
    assert read_image(volume(tmp_path / "a.nii", np.stack([noise] * 3, -1))).remarks == ()
    assert read_image(picture(tmp_path / "a.png", three[..., 0, :].astype(np.uint8))).remarks == ()


def test_good_files_give_the_very_values_and_geometry_of_monais_own_readers(tmp_path: Path, noise: np.ndarray) -> None:
    grey, rgb = noise[..., 0].astype(np.uint8), np.stack([noise[..., n] for n in range(3)], -1).astype(np.uint8)
    oblique = AFFINE.copy()
    oblique[0, 1], oblique[2, 3] = 0.3, -70
    files = [
        volume(tmp_path / "a.nii.gz", noise, oblique),
        volume(tmp_path / "b.nii", noise.astype(np.float64)),
        volume(tmp_path / "c.nii.gz", np.stack([noise] * 3, -1)),
        picture(tmp_path / "d.png", grey),
        picture(tmp_path / "e.png", rgb),
        picture(tmp_path / "f.png", grey.astype(np.uint16) * 200),
    ]
    for file in files:
        theirs, ours = LoadImaged("x")({"x": str(file)})["x"], loaded(file)
        assert torch.equal(ours.as_tensor(), theirs.as_tensor()), file.name
        assert ours.dtype == theirs.dtype == torch.float32
        assert torch.equal(ours.affine, theirs.affine), file.name
        assert np.array_equal(ours.meta["spatial_shape"], theirs.meta["spatial_shape"])
        for key in ("original_channel_dim", "filename_or_obj"):
            assert str(ours.meta[key]) == str(theirs.meta[key])


def test_what_is_refused_is_not_read_by_another_reader_of_monais(tmp_path: Path, noise: np.ndarray) -> None:
    values = noise.astype(np.float32)
    values[0, 0, 0] = np.nan
    file = volume(tmp_path / "nan.nii.gz", values)
    with pytest.raises(UnfitFileError, match=r"nan\.nii\.gz: found 1 NaN or infinite"):
        LoadImaged("x", reader=SiteReader())({"x": str(file)})


@pytest.mark.parametrize("value", [0.9999999, 1.0000001, 0.9991])
def test_a_label_near_a_whole_number_is_that_number(tmp_path: Path, value: float) -> None:
    mask = np.zeros((4, 4, 3), np.float32)
    mask[1] = value
    label = read_label(volume(tmp_path / "m.nii.gz", mask), listed=(0, 1))
    assert label.values.dtype == np.uint8
    assert np.array_equal(label.values, (mask > 0.5).astype(np.uint8))
    assert loaded(tmp_path / "m.nii.gz", "label").unique().tolist() == [0.0, 1.0]


def test_bytes_with_a_slope_of_one_255th_are_ones(tmp_path: Path) -> None:
    mask = np.zeros((4, 4, 3), np.uint8)
    mask[1] = 255
    image = nib.Nifti1Image(mask, AFFINE)
    image.header.set_slope_inter(1 / 255, 0)
    nib.save(image, tmp_path / "m.nii.gz")
    raw = bytearray(gzip.decompress((tmp_path / "m.nii.gz").read_bytes()))
    raw[112:116] = np.float32(1 / 255).tobytes()
    raw[352:] = mask.tobytes(order="F")
    (tmp_path / "m.nii").write_bytes(raw)
    assert np.unique(read_label(tmp_path / "m.nii", listed=(0, 1)).values).tolist() == [0, 1]


@pytest.mark.parametrize(("value", "said"), [(0.5, "0.5"), (0.99, "0.99"), (1.002, "1.002"), (255, "255"), (-1, "-1")])
def test_another_value_is_printed_as_it_is(tmp_path: Path, value: float, said: str) -> None:
    mask = np.zeros((4, 4, 3), np.float64)
    mask[1] = value
    with pytest.raises(UnfitFileError) as caught:
        read_label(volume(tmp_path / "m.nii.gz", mask), listed=(0, 1))
    assert caught.value.found == f"unknown label value(s) {said} (12 voxels)"
    assert "0 to n" in caught.value.remedy


def test_a_singleton_axis_is_dropped_of_images_and_labels_alike(tmp_path: Path, noise: np.ndarray) -> None:
    image = read_image(volume(tmp_path / "a.nii.gz", noise[..., None]))
    label = read_label(volume(tmp_path / "b.nii.gz", (noise > 99).astype(np.uint8)[..., None, None]))
    assert image.values.shape == label.values.shape == (6, 5, 4)
    same_grid(image, label, tmp_path / "b.nii.gz")


@pytest.mark.parametrize("phases", [2, 4])
def test_phases_are_refused_by_file_and_number(tmp_path: Path, noise: np.ndarray, phases: int) -> None:
    file = volume(tmp_path / "a.nii.gz", np.stack([noise] * phases, -1))
    with pytest.raises(UnfitFileError, match=rf"a\.nii\.gz: found {phases} channels or phases .*expected 1 or 3"):
        read_image(file)


def test_transparency_is_refused_unless_it_hides_nothing(tmp_path: Path, noise: np.ndarray) -> None:
    grey = noise[..., 0].astype(np.uint8)
    for mode, shape in (("RGBA", (6, 5, 3)), ("LA", (6, 5))):
        image = read_image(picture(tmp_path / "a.png", grey, mode))
        assert image.values.shape == shape
        assert image.remarks == ("an alpha channel that hides nothing, left out",)
        hidden = np.array(Image.fromarray(grey).convert(mode))
        hidden[:2, :, -1] = 90
        with pytest.raises(UnfitFileError, match="10 transparent"):
            read_image(picture(tmp_path / "b.png", hidden))
    with pytest.raises(UnfitFileError, match="transparent"):
        read_image(picture(tmp_path / "c.png", grey, transparency=int(grey[0, 0])))


def test_a_palette_is_colours_for_an_image_and_numbers_for_a_label(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [1, 1]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "p.png")
    read = read_image(tmp_path / "p.png")
    assert read.values[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert read.remarks == ("a palette picture, read as colours",)
    assert np.array_equal(read_label(tmp_path / "p.png", listed=(0, 1)).values, indices)
    with pytest.raises(UnfitFileError, match="a label with 3 channels"):
        read_label(picture(tmp_path / "q.png", np.zeros((2, 2, 3), np.uint8)))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_grey_label_of_few_bits_keeps_its_numbers(tmp_path: Path, bits: int) -> None:
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = bytes([0, int("01" * 4, 2) if bits == 1 else (1 if bits == 4 else 0b00010001)])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8 // bits, 1, bits, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "m.png").write_bytes(content)
    assert np.unique(read_label(tmp_path / "m.png", listed=(0, 1)).values).tolist() == [0, 1]


@pytest.mark.parametrize("value", [1e300, -1e39])
def test_values_are_judged_in_fp32(tmp_path: Path, noise: np.ndarray, value: float) -> None:
    values = noise.astype(np.float64)
    values[0, 0, 0] = value
    with pytest.raises(UnfitFileError, match="1 of them too large for fp32"):
        read_image(volume(tmp_path / "a.nii.gz", values))


def test_a_file_is_read_to_its_end(tmp_path: Path, noise: np.ndarray) -> None:
    whole = volume(tmp_path / "a.nii.gz", noise).read_bytes()
    for damaged in (whole[:-8], whole[:-1], whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]):
        (tmp_path / "b.nii.gz").write_bytes(damaged)
        with pytest.raises(UnfitFileError, match="not readable"):
            read_image(tmp_path / "b.nii.gz")
    png = picture(tmp_path / "a.png", noise[..., 0].astype(np.uint8)).read_bytes()
    place = png.index(b"IDAT") + 6
    for damaged in (png[:-1], png[:-14], png[:place] + bytes([png[place] ^ 1]) + png[place + 1 :]):
        (tmp_path / "b.png").write_bytes(damaged)
        with pytest.raises(UnfitFileError, match="not readable"):
            read_image(tmp_path / "b.png")


def test_content_decides_and_the_ending_must_not_contradict_it(tmp_path: Path, noise: np.ndarray) -> None:
    packed = volume(tmp_path / "a.nii.gz", noise).read_bytes()
    plain = volume(tmp_path / "a.nii", noise).read_bytes()
    png = picture(tmp_path / "a.png", noise[..., 0].astype(np.uint8)).read_bytes()
    for name, content in {"b.nii": packed, "c.nii.gz": plain, "D.NII.GZ": packed, "e.Nii": plain}.items():
        (tmp_path / name).write_bytes(content)
        assert np.array_equal(read_image(tmp_path / name).values, noise)
    (tmp_path / "f.PNG").write_bytes(png)
    assert read_image(tmp_path / "f.PNG").extent == (6, 5)
    for name, content, said in (
        ("g.nii", png, "a PNG picture under a NIfTI name"),
        ("h.png", plain, "looks like NIfTI"),
        ("i.png", b"\xff\xd8\xff\xe0", "looks like JPEG"),
        ("j.nii.gz", b"\0" * 128 + b"DICM", "looks like DICOM"),
        ("k.mha", plain, r"\.mha"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnfitFileError, match=said):
            read_image(tmp_path / name)


def test_kinds_of_numbers_that_are_no_intensities(tmp_path: Path, noise: np.ndarray) -> None:
    for values in (noise.astype(np.complex64), np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])):
        with pytest.raises(UnfitFileError, match="expected real numbers"):
            read_image(volume(tmp_path / "a.nii.gz", values))


def test_an_affine_must_span_a_volume(tmp_path: Path, noise: np.ndarray) -> None:
    for entry, value in (((2, 2), 0.0), ((0, 0), np.nan), ((1, 3), np.inf)):
        image = nib.Nifti1Image(noise, AFFINE)
        raw = bytearray(image.to_bytes())
        place = 280 + 16 * entry[0] + 4 * entry[1]
        raw[place : place + 4] = np.float32(value).tobytes()
        raw[254:256] = np.int16(1).tobytes()
        (tmp_path / "a.nii").write_bytes(raw)
        for read in (read_image, read_label):
            with pytest.raises(UnfitFileError, match="an affine without volume"):
                read(tmp_path / "a.nii")


def test_slices_are_counted_along_head_and_feet(tmp_path: Path, noise: np.ndarray) -> None:
    turned = AFFINE[:, [2, 0, 1, 3]]
    assert slices_of(read_image(volume(tmp_path / "a.nii.gz", noise))) == 4
    assert slices_of(read_image(volume(tmp_path / "b.nii.gz", noise, turned))) == 6


def test_scaling_is_monais_where_the_percentiles_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 20, 30), (3, 9, 9), (1, 16, 16, 5)):
        image = torch.randn(shape, generator=generator) * 70
        theirs = ScaleIntensityRangePercentilesd("x", 1, 99, 0.0, 1.0, clip=True)({"x": image})["x"]
        assert torch.equal(ScalePercentilesd("x")({"x": image})["x"], theirs)


def test_equal_percentiles_are_decided_once(caplog: pytest.LogCaptureFixture) -> None:
    image = torch.zeros(1, 32, 32, 6)
    image[0, 3:6, 3:6, 2:5] = 3000
    seen = ScalePercentilesd("x")({"x": image})["x"]
    assert torch.equal(seen, (image > 0).float())
    constant = ScalePercentilesd("x")({"x": torch.full((1, 4, 4), 7.0)})["x"]
    assert torch.equal(constant, torch.zeros(1, 4, 4))
    assert "the same value 7 everywhere" in caplog.text


@pytest.mark.parametrize("sizes", [(1e-12,) * 3, (1e12,) * 3, (1, 1, 1e6), (1e-6, 1, 1)])
def test_voxels_that_no_distance_can_be_measured_in_are_refused(
    tmp_path: Path, noise: np.ndarray, sizes: tuple[float, ...]
) -> None:
    file = volume(tmp_path / "a.nii.gz", noise, np.diag([*sizes, 1.0]))
    with pytest.raises(UnfitFileError, match=r"found voxels of .* expected sizes from 1e-05 to 100000 mm"):
        read_image(file)


def test_two_positions_and_none_are_said(tmp_path: Path, noise: np.ndarray) -> None:
    image = nib.Nifti1Image(noise, AFFINE)
    image.set_sform(AFFINE, 1)
    moved = AFFINE.copy()
    moved[0, 3] += 9
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "two.nii")
    assert "apart (sform and qform), of which the sform is read" in read_image(tmp_path / "two.nii").remarks[0]
    image.set_qform(AFFINE, 1)
    nib.save(image, tmp_path / "one.nii")
    assert read_image(tmp_path / "one.nii").remarks == ()
    image.set_qform(None, 0)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "none.nii")
    assert "no position in the body" in read_image(tmp_path / "none.nii").remarks[0]
