"""Decoding: every mode is read correctly, hostile bytes are refused by name."""

import io
import subprocess
import sys

import numpy as np
import pytest
from altered import png_of_header
from encodings_of_images import bmp32, encoded, png16, tiff
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from bus_mlops.errors import ImageError
from bus_mlops.images.decode import decode_image
from bus_mlops.images.opening import MAX_SIDE

GRAY = np.arange(0, 240, 4, dtype=np.uint8).reshape(6, 10)


SCAN = np.random.default_rng(3).integers(0, 256, (40, 48), dtype=np.uint8)
ANIMATED = {"save_all": True, "append_images": [Image.fromarray(255 - GRAY)]}


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
        *[(encoded(Image.fromarray(GRAY), form, **ANIMATED), "2 frames") for form in ("GIF", "TIFF", "PNG", "WEBP")],
        (bytes(128) + b"DICM" + bytes(90), r"a DICOM file\. Export the frame as PNG"),
        (b"\x08\x00\x05\x00CS\n\x00ISO_IR 100" + bytes(90), "a DICOM file"),
        (b"\0\0\0\x18ftypheic" + bytes(90), r"a HEIC or AVIF picture\. Convert it"),
        (b"\0\0\0\x18ftypisom" + bytes(90), "a video"),
        (b"\0\5\x16\7" + bytes(90), "macOS put beside"),
        (b"PK\3\4" + bytes(90), r"an archive\. Unpack it"),
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


def test_decoding_needs_no_more_than_numpy_and_pil():
    code = (
        "import sys; import bus_mlops.images.masks, bus_mlops.images.geometry;"
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


def with_alpha(alpha: object, gray: np.ndarray = SCAN) -> Image.Image:
    return Image.fromarray(np.dstack([gray] * 3 + [np.broadcast_to(np.asarray(alpha, np.uint8), gray.shape)]))


@pytest.mark.parametrize("alpha", [0, 1, 128, 255])
def test_an_alpha_channel_that_says_nothing_is_ignored(alpha):
    image = with_alpha(alpha)
    palette = Image.fromarray(SCAN).convert("P")
    files = [encoded(image.convert(mode), form) for mode in ("RGBA", "LA") for form in ("PNG", "TIFF")]
    files += [encoded(image, "WEBP", lossless=True, exact=True), encoded(palette, transparency=bytes([alpha]) * 256)]
    files += [bmp32(SCAN, alpha, header, 3) for header in (40, 52, 56, 108, 124)]
    files += [bmp32(SCAN, alpha, header, 0) for header in (40, 108, 124)]
    for data in files:
        assert np.array_equal(decode_image(data), SCAN)
        assert np.array_equal(decode_image(data, "rgb"), np.stack([SCAN] * 3, axis=-1))


def test_colours_that_were_multiplied_by_an_alpha_of_0_are_gone():
    data = tiff(np.dstack([SCAN] * 3 + [SCAN * 0]), extra=1)
    assert not decode_image(data).any()  # and a picture of one value is refused where it is used


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_transparency_that_hides_a_picture_is_refused(form):
    half = np.where(np.arange(48) < 24, 0, 255)
    one = np.zeros((40, 48), np.uint8)
    one[3, 3] = 255
    for alpha in (half, one, SCAN, SCAN % 2, 100 + SCAN % 9):
        for mode in ("RGBA", "LA"):
            with pytest.raises(ImageError, match=r"is transparent in \d+% of its pixels.*Save it without transparency"):
                decode_image(encoded(with_alpha(alpha).convert(mode), form))
    palette = encoded(Image.fromarray(SCAN).convert("P"), transparency=bytes(100) + b"\xff" * 156)
    with pytest.raises(ImageError, match="is transparent in"):
        decode_image(palette)


def test_transparency_that_hides_next_to_nothing_is_laid_on_black():
    corner = np.full((40, 48), 255, np.uint8)
    corner[:2, :30] = 0
    assert np.array_equal(decode_image(encoded(with_alpha(corner))), np.where(corner, SCAN, 0))
    outside = np.where(np.arange(48) < 24, 200, SCAN).astype(np.uint8)  # beneath is one colour
    half = np.where(np.arange(48) < 24, 0, 255)
    assert np.array_equal(decode_image(encoded(with_alpha(half, outside))), np.where(half, outside, 0))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_values_that_do_not_fill_their_bits_are_scaled_from_the_depth_that_holds_them(bits):
    deep = (SCAN.astype(np.int64) * (2**bits - 1) + 127) // 255
    files = [encoded(Image.fromarray(deep.astype(np.uint16)), form) for form in ("PNG", "TIFF")]
    files += [encoded(Image.fromarray(deep.astype(np.int32)), "TIFF")]
    files += [b"P5 48 40 %d\n" % (2**bits - 1) + deep.astype(">u2" if bits > 8 else "u1").tobytes()]
    files += [tiff((2**bits - 1 - deep).astype("<u2"), photometric=0)]  # white is 0
    for data in files:
        assert np.array_equal(decode_image(data), SCAN)


def test_a_file_that_declares_its_depth_is_believed():
    dark = SCAN.astype(np.int64) // 16  # of 12 bits: would be taken for 8
    assert decode_image(b"P5 48 40 4095\n" + dark.astype(">u2").tobytes()).max() == 1
    assert decode_image(tiff(dark, bits=12)).max() == 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_colours_of_16_bits_that_are_not_filled_are_refused(bits):
    deep = SCAN.astype(np.int64) * (2**bits - 1) // 255
    for channels in ([deep] * 3, [deep] * 3 + [deep * 0 + 65535], [deep, deep * 0 + 65535]):
        with pytest.raises(ImageError, match="16 bits a colour, of which the upper 8 can be read"):
            decode_image(png16(np.dstack(channels)))
    full = SCAN.astype(np.int64) * 257
    assert np.array_equal(decode_image(png16(np.dstack([full] * 3))), SCAN)


JPEGS: list[dict[str, object]] = [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 95}]


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_that_ends_early_is_never_filled_up(options, mode):
    """Cut, cut and closed with the marker that ends a picture, cut and filled with zeros."""
    data = encoded(Image.fromarray(SCAN).convert(mode), "JPEG", **options)
    whole = decode_image(data, "rgb")
    for cut in (*range(3, 40, 3), len(data) // 4):
        for rest in (b"", b"\xff\xd9", bytes(cut)):
            try:
                pixels = decode_image(data[:-cut] + rest, "rgb")
            except ImageError:
                continue
            assert np.array_equal(pixels, whole), (cut, rest)
    for longer in (data + b"what a camera appends", data[:-2] + b"\0\0" + data[-2:]):
        assert np.array_equal(decode_image(longer, "rgb"), whole)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG"])
def test_no_program_that_fills_up_truncated_files_makes_us_do_so(form, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(Image.fromarray(SCAN).convert("L" if form == "GIF" else "RGB"), form)
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError):
            decode_image(data[: int(len(data) * part)])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_compressed_tiff_that_ends_early_is_refused(compression):
    data = encoded(Image.fromarray(SCAN), "TIFF", compression=compression)
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError):
            decode_image(data[: int(len(data) * part)])


def test_of_a_phones_jpeg_of_several_frames_the_first_is_taken():
    first = Image.fromarray(SCAN).convert("RGB")
    data = encoded(first, "MPO", save_all=True, append_images=[Image.new("RGB", (20, 20))])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 2)
    assert np.abs(decode_image(data).astype(int) - decode_image(encoded(first, "JPEG"))).max() <= 1
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 3])


def test_real_pictures_come_out_as_their_files_hold_them(real_busi):
    for path in sorted(real_busi.glob("bus*/**/*.png"))[::23]:
        with Image.open(path) as image:
            assert np.array_equal(decode_image(path), np.asarray(image.convert("L"))), path
