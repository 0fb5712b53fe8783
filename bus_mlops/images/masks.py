"""Mask files -> where the lesion is: every pixel that a mask marks counts, or the mask is refused by name.

Needs only numpy and PIL, as `decode` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bus_mlops.errors import ImageError
from bus_mlops.images.decode import conversion_errors, is_deep, require_eight_bit_color, scaled
from bus_mlops.images.opening import Decoded, open_image

Rgb = tuple[int, int, int]
MASK_THRESHOLD = 127
# A mask of so few values is exact; one of more has the soft edges and the noise of a lossy or resized file.
_FEW_LEVELS = 8
# Noise of JPEG is scattered: its mean over 5 x 5 pixels was at most 12 down to a quality of 50.
_MEAN_NOISE, _ROUNDING = 12, 3
# How far, in pixels, a soft edge may reach out from what lies above the threshold.
_SOFT_EDGE = 4
# A gray whose channels differ by no more than this is gray, as after JPEG.
_COLORLESS = 32


def decode_mask(source: Path | bytes, colors: Sequence[Rgb] = ()) -> NDArray[np.bool_]:
    """A mask file as (H, W) booleans: true where it is brighter than 127, or where a colour's strongest channel is.

    A mask that is told by its alpha channel counts where it is opaque.

    Args:
        source: The file or its bytes.
        colors: The only ones that may mark a lesion, each told by which of its channels exceed 127, of which the first
            must be there; empty for any.

    Raises:
        ImageError: As in `decode_image`. Also for a mask of which a part would be lost: a region of values up to 127
            that is no soft edge (labels 0, 1, 2; a second lesion in a darker gray), values that all stop short of the
            threshold, colours and transparency that contradict each other, light around a dark lesion.
    """
    decoded = open_image(source, "the mask")
    with conversion_errors(decoded):
        values = _strength(decoded)
    lesion = values > MASK_THRESHOLD
    low, high = np.reshape(decoded.image.getextrema(), (-1, 2)).T
    # One value throughout marks all or nothing; where that is dark, it is no mask.
    if values.any() and not (lesion.all() and np.array_equal(low, high)):
        _require_all_counted(values, lesion, decoded.name)
    if colors:
        _require_colors(np.asarray(decoded.image.convert("RGB"))[lesion], colors, decoded.name)
    return lesion


def _require_colors(marked: NDArray[np.uint8], colors: Sequence[Rgb], name: str) -> None:
    """Refuse a mask whose marked (N, 3) pixels are of a colour that no lesion here has."""
    alike = ((marked > MASK_THRESHOLD)[:, None] == (np.array(colors) > MASK_THRESHOLD)).all(axis=2)
    strange = marked[~alike.any(axis=1)]
    if len(strange) or (len(marked) and not alike[:, 0].any()):
        found = ", ".join(
            map(str, sorted({tuple(map(int, pixel)) for pixel in (strange if len(strange) else marked)})[:5])
        )
        more = f", and at most {' and '.join(map(str, colors[1:]))} beside it" if colors[1:] else ""
        raise ImageError(
            f"{name}: {len(strange) or len(marked)} pixels are marked in {found} (red, green, blue), where a lesion of "
            f"this label is marked in {colors[0]}{more}. Restore the mask from the source, or correct the label."
        )


def _strength(decoded: Decoded) -> NDArray[np.uint8]:
    """How strongly each pixel is marked (H, W), 0-255; 0 only where nothing is."""
    image, name, *_ = decoded
    if is_deep(image):
        marked: NDArray[np.uint8] = (np.asarray(image) != 0).astype(np.uint8)  # however little it is
        return np.maximum(scaled(decoded), marked)
    if image.mode == "F":
        raise ImageError(f"{name} holds floating-point pixels. Save the mask as 8-bit PNG, 0 and 255.")
    require_eight_bit_color(decoded, least=256)
    if image.mode == "P":
        _require_one_black(image, name)
    if image.has_transparency_data:
        return _of_transparent(np.asarray(image.convert("RGBA")), name)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return _of_color(np.asarray(image.convert("RGB")))


def _require_one_black(image: Image.Image, name: str) -> None:
    """Labels under a palette that gives them no colour of their own would all be background."""
    used = np.unique(np.asarray(image))
    palette = np.asarray(image.getpalette("RGB")).reshape(-1, 3)
    black = [int(index) for index in used if index >= len(palette) or not palette[index].any()]
    if len(black) > 1:
        raise ImageError(
            f"{name}: its palette shows the values {', '.join(map(str, black[:10]))} all as black, so that a lesion "
            "among them cannot be told from the background. Save the lesion as 255, the rest as 0, without palette."
        )


def _of_color(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    strongest = pixels.max(axis=2)
    gray = strongest - pixels.min(axis=2) <= _COLORLESS
    return np.where(gray, np.asarray(Image.fromarray(pixels).convert("L")), strongest)


def _of_transparent(pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    colors, alpha = _of_color(np.ascontiguousarray(pixels[..., :3])), pixels[..., 3]
    if alpha.min() == alpha.max():  # says nothing
        return colors
    seen, bright = alpha > MASK_THRESHOLD, colors > MASK_THRESHOLD
    one_color = not np.ptp(colors) or (bright[seen].all() and len(np.unique(colors[alpha == 0])) <= 1)
    if one_color:  # the lesion is what is opaque, in whatever colour
        return alpha.copy()
    if not colors[~seen].any():  # nothing is hidden, so that the colours tell it all
        return colors
    raise ImageError(
        f"{name}: its colours and its transparency tell different lesions. Save it without transparency, as 0 and 255."
    )


def _require_all_counted(values: NDArray[np.uint8], lesion: NDArray[np.bool_], name: str) -> None:
    levels = np.unique(values)
    found = ", ".join(map(str, levels[:10])) + (f" and {len(levels) - 10} more" if len(levels) > 10 else "")
    if not lesion.any():
        raise ImageError(
            f"{name}: its brightest pixel is {levels[-1]}, a mask must be 0 and 255 (its values: {found}). Save it so."
        )
    edge = np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]])
    if edge.mean() > 0.5:
        raise ImageError(
            f"{name}: {edge.mean():.0%} of its border counts as lesion (its values: {found}): it is inverted, or its "
            "background is a colour. Save the lesion as 255 and everything else as 0."
        )
    if not levels[(levels > 0) & (levels <= MASK_THRESHOLD)].size:
        return
    exact, soft = len(levels) <= _FEW_LEVELS, ((levels > MASK_THRESHOLD) & (levels < levels[-1])).any()
    # A soft edge has values on either side of the threshold.
    lost = _lost(values, lesion, exact) if soft or not exact else (values > 0) & ~lesion
    if lost.any():
        darker = ", ".join(map(str, np.unique(values[lost])[:10]))
        raise ImageError(
            f"{name}: {int(lost.sum())} pixels of value {darker} are marked but do not exceed {MASK_THRESHOLD} (its "
            f"values: {found}): a part of the lesion, or another structure. Save the lesions as 255, the rest as 0."
        )


def _lost(values: NDArray[np.uint8], lesion: NDArray[np.bool_], exact: bool) -> NDArray[np.bool_]:
    """What is marked, is not counted as lesion, and is no soft edge: it is flat, or lies apart."""
    near = lesion
    for _ in range(_SOFT_EDGE):
        near = _extreme(near.astype(np.uint8), ImageFilter.MaxFilter) * values > 0
    apart = np.where(near, np.uint8(0), values)
    if not exact:
        mean = np.asarray(Image.fromarray(apart).filter(ImageFilter.BoxBlur(2)))
        apart = np.where(mean > _MEAN_NOISE, apart, np.uint8(0))
    flat = _extreme(values, ImageFilter.MaxFilter) == _extreme(values, ImageFilter.MinFilter)
    lost: NDArray[np.bool_] = (apart > 0) | (flat & ~lesion & (values > (0 if exact else _ROUNDING)))
    return lost


def _extreme(
    values: NDArray[np.uint8], kind: type[ImageFilter.MaxFilter] | type[ImageFilter.MinFilter]
) -> NDArray[np.uint8]:
    """The greatest or least value of the 3 x 3 pixels around each."""
    return np.asarray(Image.fromarray(values).filter(kind(3)))
