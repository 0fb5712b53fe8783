"""Frames as a viewer shows them: every way of coding them that public decoders read, and the traps of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ultrasound import as_bytes, screen, ultrasound

pydicom = pytest.importorskip("pydicom", reason="the extra `dicom` is not installed")

from bus_mlops.dicom.pixels import frame_pixels  # noqa: E402
from bus_mlops.dicom.reading import read_image  # noqa: E402
from bus_mlops.errors import DicomError  # noqa: E402

EXAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
RED, BLUE = (slice(1, 9), slice(20, 80)), (slice(41, 49), slice(20, 80))


def shown(image, index=0):
    return frame_pixels(read_image(as_bytes(image)).dataset, index)


def test_monochrome2_is_as_it_is_and_monochrome1_is_inverted():
    assert (shown(ultrasound()) == screen()).all()
    assert (shown(ultrasound(255 - screen(), kind="MONOCHROME1")) == screen()).all()


def test_16_bits_follow_their_depth_or_their_window_after_rescaling():
    deep = screen().astype(np.uint16) * 16
    ends = {"BitsStored": 12, "HighBit": 11}
    assert np.abs(shown(ultrasound(deep, **ends)).astype(int) - screen()).max() <= 1
    window = {
        "WindowCenter": ["1000", "5"],
        "WindowWidth": ["500", "5"],
        "RescaleSlope": "2",
        "RescaleIntercept": "-100",
    }
    values = deep * 2.0 - 100
    expected = np.clip((values - 999.5) / 499 + 0.5, 0, 1) * 255
    assert np.abs(shown(ultrasound(deep, **ends, **window)) - expected).max() <= 0.5
    exact = np.clip((values - 1000) / 500 + 0.5, 0, 1) * 255
    assert np.abs(shown(ultrasound(deep, **ends, **window, VOILUTFunction="LINEAR_EXACT")) - exact).max() <= 0.5
    signed = (deep.astype(np.int16) - 2048).astype(np.int16)
    assert np.abs(shown(ultrasound(signed, **ends, PixelRepresentation=1)).astype(int) - screen()).max() <= 1


def test_colours_by_plane_are_those_by_pixel():
    colours = np.stack([screen(), np.roll(screen(), 9), np.zeros_like(screen())], axis=-1)
    by_plane = ultrasound(colours, kind="RGB", PlanarConfiguration=1)
    by_plane.PixelData = np.moveaxis(colours, -1, 0).tobytes()
    assert (shown(ultrasound(colours, kind="RGB")) == colours).all()
    assert (shown(by_plane) == colours).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_gives_its_colours(bits):
    table = np.arange(256, dtype=np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 257)
    tags: dict[str, Any] = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, bits] for c in ("Red", "Green", "Blue")}
    tags |= {f"{c}PaletteColorLookupTableData": table.tobytes() for c in ("Red", "Green")}
    image = ultrasound(screen(), kind="PALETTE COLOR", **tags, BluePaletteColorLookupTableData=bytes(table.nbytes))
    colours = shown(image)
    assert (colours[..., :2] == screen()[..., None]).all()
    assert not colours[..., 2].any()


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",  # JPEG, RGB
        "SC_rgb_dcmtk_+eb+cy+n1.dcm",  # JPEG, YBR_FULL
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",  # JPEG, YBR_FULL_422
        "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_gdcm_KY.dcm",  # JPEG 2000
        "SC_rgb_rle.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
    ],
)
def test_coloured_bars_have_their_colours_however_they_are_compressed(name):
    pixels = frame_pixels(pydicom.dcmread(EXAMPLES / name), 0)
    assert np.abs(pixels[RED].astype(int) - (255, 0, 0)).max() <= 5
    assert np.abs(pixels[BLUE].astype(int) - (0, 0, 255)).max() <= 5


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_lossless_gray_of_16_bits_is_that_of_the_uncompressed_file(name):
    plain = frame_pixels(pydicom.dcmread(EXAMPLES / "MR_small.dcm"), 0)
    assert np.ptp(plain) > 100
    assert (frame_pixels(pydicom.dcmread(EXAMPLES / name), 0) == plain).all()


def test_every_frame_of_a_compressed_clip_is_read():
    image = read_image(EXAMPLES / "examples_ybr_color.dcm")
    frames = [frame_pixels(image.dataset, index) for index in range(0, image.frames, 10)]
    assert {frame.shape for frame in frames} == {(240, 320, 3)}
    assert len({frame.tobytes() for frame in frames}) == len(frames)


def compressed(pixels, syntax, **tags):
    image = ultrasound(pixels, **tags)
    image.compress(syntax)
    return image


def test_half_a_compressed_frame_is_refused():
    jpeg = pydicom.dcmread(EXAMPLES / "SC_rgb_jpeg_dcmtk.dcm")
    whole = jpeg.PixelData
    jpeg.PixelData = whole[: len(whole) // 2] + b"\xfe\xff\xdd\xe0\0\0\0\0"
    with pytest.raises(DicomError, match="frame 1"):
        frame_pixels(jpeg, 0)
    rle = compressed(screen(), pydicom.uid.RLELossless)
    rle.PixelData = rle.PixelData[:200] + bytes(len(rle.PixelData) - 208) + rle.PixelData[-8:]
    with pytest.raises(DicomError, match="frame 1"):
        shown(rle)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])
def test_a_frame_of_another_size_than_claimed_is_refused_before_it_is_decoded(syntax):
    image = compressed(screen(), syntax)
    assert (shown(image) == screen()).all()
    image.Rows = 279
    with pytest.raises(DicomError, match="360 x 280 pixels, but the image claims 360 x 279"):
        shown(image)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 60000, "Columns": 60000}, "no scanner writes that"),
        ({"PixelData": None}, "no pixels"),
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation 'HSV'"),
        ({"SamplesPerPixel": 3}, "with 3 values a pixel"),
        ({"BitsStored": 12}, "12 of 8 bits"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 of 32 bits"),
        ({"PixelData": b"12"}, "cannot be decoded"),
        ({"WindowCenter": "5", "WindowWidth": "0"}, "window"),
    ],
)
def test_what_cannot_be_shown_is_refused(tags, message):
    with pytest.raises(DicomError, match=message):
        shown(ultrasound(**tags))
