"""Pictures in which nothing can be seen are refused by name; dark and flat ones that show something are not."""

import numpy as np
import pytest
from PIL import Image

from bus_mlops.errors import ImageError
from bus_mlops.images.contrast import require_contrast

SCAN = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 251


def framed(value: int) -> np.ndarray:
    """One value, with a white line above and a mark."""
    pixels = np.full((64, 64), value, np.uint8)
    pixels[0], pixels[30, 30] = 255, 255
    return pixels


@pytest.mark.parametrize("pixels", [framed(0), framed(128), framed(255), (SCAN >> 4).astype(np.uint8)])
def test_what_is_almost_of_one_value_is_refused(pixels):
    for each in (pixels, np.stack([pixels] * 3, axis=-1)):
        with pytest.raises(ImageError, match=r"^scan\.png is almost of one value: nine tenths .* within \d+ of 255"):
            require_contrast(each, "scan.png")


def test_one_channel_that_shows_something_is_enough():
    flat = np.full((64, 64), 90, np.uint8)
    require_contrast(np.stack([flat, (SCAN // 8).astype(np.uint8), flat], axis=-1), "scan.png")
    require_contrast((SCAN // 8).astype(np.uint8), "scan.png")


def test_no_real_picture_is_refused(real_busi):
    for path in sorted(real_busi.glob("bus*/**/*.png"))[::7]:
        if "mask" not in path.name:
            require_contrast(np.asarray(Image.open(path)), str(path))
