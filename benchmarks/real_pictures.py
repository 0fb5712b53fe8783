"""Real pictures that a model of breast ultrasound should refuse, from packages and folders; none of them is fitted to.

Photographs that scikit-learn, matplotlib and, where they are installed, scikit-image and others bring; the CT, MR and
echocardiograms of pydicom; every image file below folders that the caller names. Of a photograph several parts are
cut, which share a name before the `#`: they are one case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from bus_mlops.promotion.odd_pictures import Pixels, eight_bits

# Where packages that are often there keep pictures of the world.
PACKAGES = {"sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data", "skimage": "data", "imgaug": "."}
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
CUTS = 5


def photographs(folders: Sequence[Path], seed: int = 0) -> Iterator[tuple[str, str, Pixels]]:
    """(kind, name, pixels) of the whole and of parts of each picture in packages and below `folders`."""
    paths = [path for folder in (*_package_folders(), *folders) for path in sorted(folder.rglob("*"))]
    for place, path in enumerate(p for p in paths if p.suffix.lower() in SUFFIXES):
        with Image.open(path) as picture:
            picture.draft("RGB", (1600, 1600))
            whole = picture.convert("RGB")
        whole.thumbnail((1600, 1600))
        if min(whole.size) < 100:  # icons
            continue
        rng = np.random.default_rng((seed, place))
        for k in range(CUTS):
            yield "photographs", f"{path.name}#{k}", _cut(np.asarray(whole), rng) if k else np.asarray(whole)


def scans_of_pydicom() -> Iterator[tuple[str, str, Pixels]]:
    """(kind, name, pixels) of the CT, MR and ultrasound images that pydicom brings, if it is installed."""
    if find_spec("pydicom") is None:
        return
    import pydicom
    from pydicom.data import get_testdata_file

    for name in ("CT_small", "693_J2KI", "J2K_pixelrep_mismatch", "examples_overlay", "examples_jpeg2k",
                 "examples_palette", "examples_rgb_color", "examples_ybr_color"):  # fmt: skip
        path = get_testdata_file(f"{name}.dcm", download=False)
        if path is None:
            continue
        scan = pydicom.dcmread(str(path))
        frames = np.asarray(scan.pixel_array)
        kind = "ultrasound of other organs" if scan.Modality == "US" else "CT and MR"
        for k, frame in enumerate(frames[::5] if frames.ndim == 4 else [frames]):
            yield kind, f"{name}#{k}", eight_bits(frame)


def _package_folders() -> Iterator[Path]:
    for name, inner in PACKAGES.items():
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / inner


def _cut(picture: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = picture.shape[:2]
    share = rng.uniform(0.3, 0.8)
    rows, columns = max(64, int(share * height)), max(64, int(share * width))
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    return picture[top : top + rows, left : left + columns]
