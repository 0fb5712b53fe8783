"""Decoding: every mode is read correctly, hostile bytes are refused by name."""

import io
import subprocess
import sys

import numpy as np
import pytest
from altered import png_of_header
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bus_mlops.errors import ImageError
from bus_mlops.images.decode import MAX_SIDE, decode_image, decode_mask

GRAY = np.arange(0, 240, 4, dtype=np.uint8).reshape(6, 10)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "PPM"])
def test_gray_comes_back_unchanged_from_every_lossless_format(form):
    assert np.array_equal(decode_image(encoded(Image.fromarray(GRAY), form)), GRAY)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colour_modes_of_a_gray_picture_give_the_same_gray(mode):
    data = encoded(Image.fromarray(GRAY).convert(mode))
    assert np.array_equal(decode_image(data, "gray"), GRAY)
    assert np.array_equal(decode_image(data, "rgb"), np.stack([GRAY] * 3, axis=-1))


def test_transparency_is_laid_on_black():
    pixels = np.full((4, 4, 4), 255, np.uint8)
    pixels[:2, :, 3] = 0
    values = decode_image(encoded(Image.fromarray(pixels)))
    assert (values[:2] == 0).all()
    assert (values[2:] == 255).all()


def test_palette_with_colour_and_transparency():
    image = Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    assert decode_image(encoded(image), "rgb")[0, 0].tolist() == [255, 0, 0]
    assert decode_image(encoded(image, transparency=0), "rgb")[0, 0].tolist() == [0, 0, 0]


def test_sixteen_bits_are_scaled_from_their_full_range():
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert decode_image(encoded(Image.fromarray(values))).tolist() == [[0, 1, 128, 255]]
    assert decode_image(encoded(Image.fromarray(values), "TIFF")).tolist() == [[0, 1, 128, 255]]


def test_cmyk_and_one_bit():
    cmyk = Image.new("CMYK", (8, 8), (0, 0, 0, 255))
    assert decode_image(encoded(cmyk, "JPEG")).max() < 40
    assert decode_image(encoded(Image.new("CMYK", (8, 8)), "JPEG")).min() > 215
    assert decode_image(encoded(Image.fromarray(GRAY > 100))).tolist() == ((GRAY > 100) * 255).tolist()


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(Image.new("L", (20, 10)), "JPEG", exif=exif)).shape == (20, 10)
    data = encoded(Image.fromarray(GRAY), exif=exif)
    assert np.array_equal(decode_image(data), np.rot90(GRAY, -1))


def test_the_content_decides_and_not_the_suffix(tmp_path):
    path = tmp_path / "really-a-bitmap.png"
    path.write_bytes(encoded(Image.fromarray(GRAY), "BMP"))
    assert np.array_equal(decode_image(path), GRAY)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"<html>not found</html>", "is not an image"),
        (encoded(Image.fromarray(GRAY))[:-30], "is damaged"),
        (encoded(Image.fromarray(np.tile(GRAY, (40, 40))), "JPEG")[:-900], "is damaged"),
        (png_of_header(50_000, 50_000), "pixels"),
        (png_of_header(10_001, 10_000), "10001 x 10000 pixels"),
        (png_of_header(200, 20_000), "200 x 20000 pixels: its longer side is more than 16,384"),
        (png_of_header(0, 5), "is not an image|is damaged|no pixels"),
        (encoded(Image.fromarray(GRAY.astype(np.float32)), "TIFF"), "floating-point"),
        (
            encoded(Image.fromarray(GRAY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GRAY)]),
            "2 frames",
        ),
    ],
)
def test_hostile_files_are_refused_by_name(tmp_path, data, message):
    path = tmp_path / "hostile.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"hostile\.png.*({message})"):
        decode_image(path)


def test_the_longest_side_that_can_be_padded_to_a_square():
    assert decode_image(encoded(Image.new("L", (MAX_SIDE, 2)))).shape == (2, MAX_SIDE)
    for size in ((MAX_SIDE + 1, 2), (2, MAX_SIDE + 1)):
        with pytest.raises(ImageError, match="its longer side is more than 16,384"):
            decode_image(encoded(Image.new("L", size)))
        with pytest.raises(ImageError, match="its longer side is more than 16,384"):
            decode_mask(encoded(Image.new("1", size)))


def test_a_flipped_bit_in_a_png_is_noticed():
    data = bytearray(encoded(Image.fromarray(np.tile(GRAY, (10, 10)))))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="damaged"):
        decode_image(bytes(data))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"absent\.png cannot be read: No such file"):
        decode_image(tmp_path / "absent.png")


@given(st.binary(max_size=300), st.integers(0, 200), st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "GIF"]))
@settings(max_examples=250, deadline=None)
def test_fuzzed_bytes_raise_nothing_but_our_own_error(noise, place, form):
    data = encoded(Image.fromarray(GRAY), form)
    for candidate in (noise, data[:place] + noise + data[place + len(noise) :]):
        try:
            values = decode_image(candidate, "rgb")
        except ImageError:
            continue
        assert values.dtype == np.uint8
        assert values.shape[2] == 3


def test_masks_of_every_mode_agree_and_the_threshold_is_127():
    truth = GRAY > 127
    image = Image.fromarray(truth.astype(np.uint8) * 255)
    for mode in ("1", "L", "RGB", "RGBA", "P"):
        assert np.array_equal(decode_mask(encoded(image.convert(mode))), truth), mode
    assert decode_mask(encoded(Image.fromarray(np.array([[126, 127, 128]], np.uint8)))).tolist() == [[0, 0, 1]]
    with pytest.raises(ImageError, match="brightest pixel is 1"):
        decode_mask(encoded(Image.fromarray(truth.astype(np.uint8))))
    assert not decode_mask(encoded(Image.new("L", (3, 3)))).any()


def test_decoding_needs_no_more_than_numpy_and_pil():
    code = (
        "import sys; import bus_mlops.images.decode, bus_mlops.images.geometry;"
        "heavy = {'pandas', 'cv2', 'scipy', 'tensorflow', 'sklearn', 'mlflow'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sixteen_bits_are_rounded_to_eight():
    """65535 / 255 is 257: from the middle between two of its multiples on, the upper one is nearer."""
    values = np.array([[0, 128, 129, 257, 385, 386, 65406, 65407, 65535]], np.uint16)
    wide = np.repeat(values, 9, axis=0)
    assert decode_image(encoded(Image.fromarray(wide)))[0].tolist() == [0, 0, 1, 1, 1, 2, 254, 255, 255]


def test_a_png_whose_checksum_is_wrong_is_damaged():
    """Its pixels may be anything: decoding alone passes the checksums over."""
    data = bytearray(encoded(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))))
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    data[start + 4 + length] ^= 1  # the first byte of the chunk's checksum
    with pytest.raises(ImageError, match="is damaged"):
        decode_image(bytes(data))
