"""Masks: every marked pixel counts, or the file is refused with its values; never a part of a lesion silently."""

import re

import numpy as np
import pytest
from encodings_of_images import encoded, png16
from PIL import Image

from bus_mlops.errors import ImageError
from bus_mlops.images.masks import decode_mask

ONE, OTHER = np.zeros((2, 64, 64), bool)
ONE[10:20, 10:20], OTHER[40:50, 40:52] = True, True
BOTH = ONE | OTHER
LOST, INVERTED, DARK = "are marked but do not exceed 127", "of its border counts as lesion", "its brightest pixel is"
GRAY = np.arange(0, 240, 4, dtype=np.uint8).reshape(6, 10)


def gray(one: int, other: int, kind: type = np.uint8) -> Image.Image:
    return Image.fromarray((ONE * one + OTHER * other).astype(kind))


Rgb = tuple[int, int, int]


def colored(one: Rgb, other: Rgb, around: Rgb = (0, 0, 0)) -> Image.Image:
    pixels = np.zeros((64, 64, 3), np.uint8) + np.array(around, np.uint8)
    pixels[ONE], pixels[OTHER] = one, other
    return Image.fromarray(pixels)


def palette(one: int, other: int, colors: dict[int, Rgb]) -> Image.Image:
    image = Image.fromarray((ONE * one + OTHER * other).astype(np.uint8), "P")
    image.putpalette([value for index in range(256) for value in colors.get(index, (0, 0, 0))])
    return image


def layered(rgb: object, alpha: object) -> Image.Image:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3] = np.asarray(rgb)
    pixels[..., 3] = np.asarray(alpha)
    return Image.fromarray(pixels)


WHITE, LESIONS = np.full((64, 64, 3), 255), np.dstack([BOTH * 255] * 3)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.mark.parametrize(
    "image",
    [
        colored(RED, GREEN),
        colored(BLUE, (255, 255, 255)),
        colored((128, 0, 0), (0, 128, 0)),
        gray(128, 255),
        gray(255, 254),
        gray(255, 255, np.uint16),
        gray(65535, 65535, np.uint16),
        gray(255, 200, np.int32),
        palette(1, 2, {1: RED, 2: BLUE}),
        palette(1, 2, {1: (128, 0, 0), 2: (0, 128, 0)}),
        layered(0, BOTH * 255),
        layered(255, BOTH * 255),
        layered(LESIONS, 0),
        layered(LESIONS, BOTH * 255),
        layered(np.where(BOTH[..., None], RED, 255), BOTH * 255),
        layered(LESIONS, BOTH * 255).convert("LA"),
    ],
)
def test_lesions_of_any_colour_and_kind_of_mask_all_count(image):
    form = "TIFF" if image.mode == "I" else "PNG"
    assert np.array_equal(decode_mask(encoded(image, form)), BOTH)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (gray(1, 255), rf"100 pixels of value 1 {LOST} \(its values: 0, 1, 255\)"),
        (gray(255, 50), rf"120 pixels of value 50 {LOST} \(its values: 0, 50, 255\)"),
        (gray(100, 200), LOST),
        (colored(RED, (64, 0, 0)), rf"120 pixels of value 64 {LOST}"),
        (colored((100, 100, 100), GREEN), LOST),
        (colored(RED, GREEN, (68, 1, 84)), LOST),
        (gray(100, 65535, np.uint16), rf"value 1 {LOST}"),
        (layered(255, ONE * 255 + OTHER * 90), rf"value 90 {LOST}"),
        (gray(1, 2), rf"{DARK} 2, a mask must be 0 and 255 \(its values: 0, 1, 2\)"),
        (gray(1, 1, np.uint16), DARK),
        (palette(1, 255, {1: RED}), "shows the values 0, 255 all as black"),
        (palette(1, 1, {}), "shows the values 0, 1 all as black"),
        (Image.fromarray(np.where(BOTH, 0, 255).astype(np.uint8)), rf"100% {INVERTED}.*inverted"),
        (colored(RED, GREEN, (255, 255, 255)), INVERTED),
        (layered(255, ~BOTH * 255), INVERTED),
        (layered(255 - LESIONS, BOTH * 255), "its colours and its transparency tell different lesions"),
        (layered(LESIONS, ~BOTH * 255), "its colours and its transparency tell different lesions"),
        (layered(LESIONS, ONE * 255), "its colours and its transparency tell different lesions"),
    ],
)
def test_a_mask_of_which_a_part_would_be_lost_is_refused_with_its_values(tmp_path, image, message):
    path = tmp_path / "scan_mask.png"
    path.write_bytes(encoded(image))
    with pytest.raises(ImageError, match=rf"scan_mask\.png.*{message}"):
        decode_mask(path)


def test_masks_of_floating_point_or_of_16_bits_a_colour_are_refused():
    with pytest.raises(ImageError, match="floating-point"):
        decode_mask(encoded(Image.fromarray(BOTH.astype(np.float32)), "TIFF"))
    with pytest.raises(ImageError, match="16 bits a colour"):
        decode_mask(png16(np.dstack([ONE * 200 + OTHER * 65535] * 3)))


def test_a_darker_part_beside_or_around_a_lesion_is_no_soft_edge():
    for width in (1, 2, 3, 9):
        pixels = np.where(ONE, 255, 0).astype(np.uint8)
        pixels[20 : 20 + width, 10:20] = 100
        with pytest.raises(ImageError, match=rf"{10 * width} pixels of value 100 {LOST}"):
            decode_mask(encoded(Image.fromarray(pixels)))


@pytest.mark.parametrize("quality", [95, 75, 50])
def test_the_noise_of_a_jpeg_is_no_lesion(quality):
    data = encoded(gray(255, 255), "JPEG", quality=quality)
    assert np.array_equal(decode_mask(data), BOTH)
    for level in (30, 60, 100):
        with pytest.raises(ImageError, match=LOST):
            decode_mask(encoded(gray(255, level), "JPEG", quality=quality))


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.3, 2, 3, 4])
def test_soft_edges_of_a_resized_mask_are_split_at_the_threshold(factor):
    disc = np.hypot(*(np.mgrid[:64, :64] - 31)) < 20
    side = int(64 * factor)
    soft = Image.fromarray((disc * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)
    assert np.array_equal(decode_mask(encoded(soft)), np.asarray(soft) > 127)


def test_masks_of_every_mode_agree_and_the_threshold_is_127():
    truth = GRAY > 127
    image = Image.fromarray(truth.astype(np.uint8) * 255)
    for mode in ("1", "L", "RGB", "RGBA", "P"):
        assert np.array_equal(decode_mask(encoded(image.convert(mode))), truth), mode
    assert decode_mask(encoded(Image.fromarray(np.array([[126, 127, 128, 255]], np.uint8)))).tolist() == [[0, 0, 1, 1]]
    assert not decode_mask(encoded(Image.new("L", (3, 3)))).any()
    assert decode_mask(encoded(Image.new("1", (3, 3), 1))).all()


def test_masks_of_real_sources_are_what_they_were(real_busi):
    masks = [path for path in sorted(real_busi.glob("bus*/**/*.png")) if re.search("mask", path.name)]
    for path in masks[::23]:
        with Image.open(path) as image:
            assert np.array_equal(decode_mask(path), np.asarray(image.convert("L")) > 127), path
