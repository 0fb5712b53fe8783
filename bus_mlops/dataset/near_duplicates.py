"""Near-duplicates among thumbnails: candidates by two descriptors, each confirmed by correlation.

Every image is compared as it is, mirrored left to right, and zoomed into its middle by 1/0.9, 1/0.8 and
1/0.7: a copy whose borders were cut off looks, once padded and resized, like a zoomed view of its original. OpenCV and
SciPy do the work. Perceptual hashes (imagehash) are not used: they could only propose candidates too, and
correlation would still have to decide; the descriptors here propose them with a finer measure.

Processor time, by benchmarks/audit.py: 10.9 ms an image among 1,500. With six views and shifts of up to 8 pixels it
was 8.1, and 7.9 among 5,000, 8.4 among 10,000, 8.6 among 20,000: correlating the candidates takes most of it and is
linear, finding them grows as N^1.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bus_mlops.dataset.neighbours import Floats, Integers, Neighbours

Pair = tuple[int, int]


class View(NamedTuple):
    """How one image of a pair is shown to the other: `zoom` is the side of the middle that is kept."""

    zoom: float = 1.0
    mirrored: bool = False

    def __str__(self) -> str:
        words = ["mirrored"] * self.mirrored + ["cropped"] * (self.zoom != 1)
        return " and ".join(words) or "as it is"


class Match(NamedTuple):
    """The greatest correlation of a pair over shifts and views (-1 to 1), and the view that reached it."""

    similarity: float
    view: View


AS_IS = View()
VIEWS = tuple(View(zoom, mirrored) for mirrored in (False, True) for zoom in (1.0, 0.9, 0.8, 0.7))
# Set on real BUSI by looking at the pairs: from 0.29 on all show the same lesion, from 0.28 down they are
# mixed; a margin is left for larger collections.
THRESHOLD = 0.33
# Seven more views are seven more chances for unrelated images to look alike. On BUSI no pair lies between 0.28
# and 0.39 in these views.
VIEW_THRESHOLD = 0.37
_NEIGHBOURS = 24
_VIEW_NEIGHBOURS = 6
_COEFFICIENTS = 12
_FREQUENCIES = 12
_SHIFT = 16
# Gray levels (0-255) up to which a row or column at the rim of a thumbnail is a border; JPEG leaves a few.
_BLACK = 12
# In other views, what two images need in common before they are correlated: the sum of both descriptors'
# cosines. Of planted copies 1 in 100 has less, and half of all other candidates do.
_WORTH_CONFIRMING = 0.45
_ROWS = 256
_PAIRS = 512


@dataclass(frozen=True)
class _Thumbnails:
    """(N, S, S) gray thumbnails; (N, 4) edges of what they show, top, bottom, left, right, in pixels from the middle.

    Neither padding nor black borders are shown: those of a screenshot would make any two alike.
    """

    pixels: NDArray[np.uint8]
    edges: NDArray[np.float64]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], widths: Sequence[int], heights: Sequence[int]) -> _Thumbnails:
        longest, side = np.maximum(widths, heights).astype(np.float64), pixels.shape[1]
        down, across = (side * np.asarray(sides) / longest / 2 for sides in (heights, widths))
        edges = np.stack([-down, down, -across, across], axis=1)
        for start in range(0, len(pixels), _ROWS):
            lit = np.asarray(pixels[start : start + _ROWS]) > _BLACK
            for column, axis in ((0, 2), (2, 1)):
                known: NDArray[np.bool_] = lit.max(axis=axis)
                first, last = known.argmax(axis=1), side - known[:, ::-1].argmax(axis=1)
                rows = edges[start : start + _ROWS]
                # a picture that is black throughout keeps its whole frame
                some = known.max(axis=1)
                rows[some, column] = np.maximum(rows[some, column], first[some] - side / 2)
                rows[some, column + 1] = np.minimum(rows[some, column + 1], last[some] - side / 2)
        return cls(pixels, edges)

    def blocks(self) -> Iterator[Integers]:
        """The row numbers, a few at a time, so that memory stays bounded."""
        for start in range(0, len(self.pixels), _ROWS):
            yield np.arange(start, min(start + _ROWS, len(self.pixels)))

    def show(self, rows: Integers, view: View) -> tuple[Floats, Floats]:
        """The pixels of some thumbnails in a view, and 1 where they show the image."""
        values = _zoomed(np.asarray(self.pixels[rows], dtype=np.float32), view.zoom)
        content = _content(values.shape[1], self.edges[rows] / view.zoom)
        if view.mirrored:
            return np.ascontiguousarray(values[:, :, ::-1]), np.ascontiguousarray(content[:, :, ::-1])
        return values, content


def near_duplicates(thumbnails: NDArray[np.uint8], widths: Sequence[int], heights: Sequence[int]) -> dict[Pair, Match]:
    """Pairs (i < j) of images whose peak correlation reaches the threshold.

    Candidates are the nearest neighbours by low-frequency cosine transform (which knows where things are)
    and by the magnitude of the Fourier transform (which does not mind a shift); each is confirmed by the
    greatest normalized correlation of the locally normalized images over shifts of up to 16 pixels.
    Brightness, contrast and depth gain cancel out.

    Args:
        thumbnails: (N, 64, 64), 0-255.
        widths: In pixels before padding; with `heights` they say which part of a thumbnail is image, since padding
            must not make two images alike.
        heights: As `widths`.
    """
    if len(thumbnails) < 2:
        return {}
    stack = _Thumbnails.of(thumbnails, widths, heights)
    descriptors = _descriptors(stack, AS_IS)
    indices = tuple(Neighbours(each) for each in descriptors)
    detail = np.concatenate([_whitened(*stack.show(rows, AS_IS)) for rows in stack.blocks()])
    found: dict[Pair, Match] = {}
    for view in VIEWS:
        threshold = THRESHOLD if view == AS_IS else VIEW_THRESHOLD
        candidates = _candidates(stack, view, descriptors, indices)
        for rows in stack.blocks():
            block = candidates[slice(*np.searchsorted(candidates[:, 0], [rows[0], rows[-1] + 1]))]
            peaks = _peaks(_whitened(*stack.show(rows, view))[block[:, 0] - rows[0]], detail[block[:, 1]])
            for (i, j), peak in zip(block.tolist(), peaks.tolist(), strict=True):
                pair = (min(i, j), max(i, j))
                if peak >= threshold and (pair not in found or peak > found[pair].similarity):
                    found[pair] = Match(peak, view)
    return found


def _descriptors(stack: _Thumbnails, view: View) -> tuple[Floats, Floats]:
    """Of each image its cosine coefficients and its Fourier magnitudes, both of norm 1."""
    parts = []
    for rows in stack.blocks():
        flat = _detail(*stack.show(rows, view), 4)
        parts.append((_cosines(flat), _magnitudes(flat)))
    cosines, magnitudes = zip(*parts, strict=True)
    return np.concatenate(cosines), np.concatenate(magnitudes)


def _candidates(
    stack: _Thumbnails, view: View, base: tuple[Floats, Floats], indices: tuple[Neighbours, ...]
) -> Integers:
    """(P, 2) pairs (shown, base), each once and sorted: what is near by one descriptor or the other."""
    shown = base if view == AS_IS else _descriptors(stack, view)
    counts = (_NEIGHBOURS if view == AS_IS else _VIEW_NEIGHBOURS, _VIEW_NEIGHBOURS)
    near = [index.query(each, count) for index, each, count in zip(indices, shown, counts, strict=True)]
    pairs = np.unique(np.concatenate(near), axis=0)
    if view == AS_IS:
        return pairs
    common = np.zeros(len(pairs), dtype=np.float32)
    for one, other in zip(shown, base, strict=True):
        for start in range(0, len(pairs), _PAIRS):
            some = pairs[start : start + _PAIRS]
            common[start : start + _PAIRS] += (one[some[:, 0]] * other[some[:, 1]]).sum(axis=1)
    return pairs[common >= _WORTH_CONFIRMING]


def _peaks(shown: NDArray[np.float16], others: NDArray[np.float16]) -> Floats:
    """The greatest correlation of each image with the other of its pair, over shifts of up to 16 pixels each way."""
    from scipy import fft

    side = others.shape[1] + _SHIFT
    window = np.r_[0 : _SHIFT + 1, side - _SHIFT : side]
    peaks = [np.empty(0, dtype=np.float32)]
    for start in range(0, len(others), _PAIRS):
        spectrum = fft.rfft2(shown[start : start + _PAIRS].astype(np.float32), s=(side, side))
        np.conj(spectrum, out=spectrum)
        spectrum *= fft.rfft2(others[start : start + _PAIRS].astype(np.float32), s=(side, side))
        surface = fft.irfft2(spectrum, s=(side, side))
        peaks.append(surface[:, window][:, :, window].max(axis=(1, 2)))
    return np.concatenate(peaks)


def _zoomed(values: Floats, zoom: float) -> Floats:
    """The middle of each image, `zoom` of its side, enlarged to the whole side."""
    if zoom == 1:
        return values
    import cv2

    side = values.shape[1]
    origin = (side - 1) / 2 * (1 - zoom)
    place = np.array([[zoom, 0, origin], [0, zoom, origin]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    zoomed: list[Floats] = [cv2.warpAffine(each, place, (side, side), flags=how) for each in values]
    return np.stack(zoomed)


def _content(side: int, edges: NDArray[np.float64]) -> Floats:
    """(N, side, side): 1 where a thumbnail shows the image, 0 outside its edges and one pixel next to them."""
    place = (np.arange(side) - (side - 1) / 2)[None]
    top, bottom, left, right = np.clip(edges, -side / 2, side / 2).T[:, :, None]
    rows: NDArray[np.bool_] = (place >= top + 1.5) & (place <= bottom - 1.5)
    columns: NDArray[np.bool_] = (place >= left + 1.5) & (place <= right - 1.5)
    return (rows[:, :, None] & columns[:, None, :]).astype(np.float32)


def _smoothed(values: Floats, sigma: float) -> Floats:
    import cv2

    ends = 2 * int(4 * sigma + 0.5) + 1
    blurred = [cv2.GaussianBlur(each, (ends, ends), sigma, borderType=cv2.BORDER_REFLECT) for each in values]
    return np.stack(blurred)


def _detail(values: Floats, content: Floats, sigma: float) -> Floats:
    """The images minus their local mean over the content, 0 in the padding."""
    mean = _smoothed(values * content, sigma) / (_smoothed(content, sigma) + 1e-6)
    return np.asarray((values - mean) * content, dtype=np.float32)


def _whitened(values: Floats, content: Floats) -> NDArray[np.float16]:
    """Each image without its low frequencies, of even local contrast, norm 1 over the content."""
    detail = _detail(values, content, 2)
    contrast = np.sqrt(_smoothed(detail**2, 4) / (_smoothed(content, 4) + 1e-6)) + 4
    return _normalized(detail / contrast).astype(np.float16)


def _cosines(flat: Floats) -> Floats:
    """(N, 143) low-frequency cosine coefficients without the trend over depth that all images share."""
    from scipy import fft

    spectrum = fft.dctn(flat, axes=(1, 2), norm="ortho")[:, :_COEFFICIENTS, :_COEFFICIENTS]
    return _normalized(spectrum.reshape(len(flat), -1)[:, 1:])


def _magnitudes(flat: Floats) -> Floats:
    """(N, 325) magnitudes of the low frequencies, each against those around it: no trend, no brightness."""
    from scipy import fft

    whole = np.sqrt(np.abs(fft.rfft2(flat)))[:, :, : 2 * _FREQUENCIES]
    whole = np.roll(whole, 2 * _FREQUENCIES, axis=1)[:, : 4 * _FREQUENCIES + 1].astype(np.float32)
    relative = whole / (_smoothed(whole, 3) + 1e-3) - 1
    low = relative[:, _FREQUENCIES : 3 * _FREQUENCIES + 1, : _FREQUENCIES + 1]
    return _normalized(low.reshape(len(flat), -1))


def _normalized(values: Floats) -> Floats:
    norm = np.sqrt((values**2).sum(axis=tuple(range(1, values.ndim)), keepdims=True))
    # an image without any structure correlates with nothing
    result: Floats = np.where(norm > 1e-3, values / np.maximum(norm, 1e-3), 0).astype(np.float32)
    return result
