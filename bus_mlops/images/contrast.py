"""Whether a picture shows anything: one that is almost of a single value is refused wherever pictures are used.

Needs only numpy, as every consumer has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bus_mlops.errors import ImageError

# Gray levels between the percentiles 5 and 95. Of 1,707 real pictures the least has 47; one of 12 bits that is read as
# one of 16 keeps at most 15, one of 13 bits 31.
LEAST_CONTRAST = 24
_TAIL = 0.05


def require_contrast(pixels: NDArray[np.uint8], name: str) -> None:
    """Refuse a picture in which nothing can be seen.

    Args:
        pixels: (H, W), or (H, W, 3), of which the best channel counts; 0-255.
        name: Begins the message.

    Raises:
        ImageError: Nine tenths of its pixels lie within fewer than 24 gray levels of 255.
    """
    channels = pixels.reshape(-1, 1 if pixels.ndim == 2 else pixels.shape[2])
    found = max(_spread(channels[:, k]) for k in range(channels.shape[1]))
    if found < LEAST_CONTRAST:
        raise ImageError(
            f"{name} is almost of one value: nine tenths of its pixels lie within {found} of 255 gray levels (at least "
            f"{LEAST_CONTRAST} are needed). Is it empty, or was its brightness lost in a conversion? Export it again "
            "from the scanner or viewer, as 8-bit PNG."
        )


def _spread(values: NDArray[np.uint8]) -> int:
    sums = np.bincount(values, minlength=256).cumsum()
    low, high = np.searchsorted(sums, [_TAIL * sums[-1], (1 - _TAIL) * sums[-1]])
    return int(high - low)
