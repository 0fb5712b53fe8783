"""The explanation: it points at what the network looks at, in the image's own geometry, with ONNX alone."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
from tiny_package import speckle

from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.explanation import heat_png, occlusion_map


@pytest.mark.parametrize("shape", [(128, 128), (64, 128), (128, 96)])
def test_it_points_at_the_place_that_matters(shape):
    """A network that looks at one spot only: covering that spot, and no other, changes its answer."""
    height, width = shape
    square = np.zeros((128, 128, 3), np.uint8)
    square[64:80, 64:80] = 255

    def predict(batch):
        return batch[:, 64:80, 64:80].mean(axis=(1, 2, 3)).astype(np.float64) / 255

    values = occlusion_map(square, 1.0, predict, shape)
    assert values.shape == shape
    row, column = np.unravel_index(values.argmax(), shape)
    # The spot's place in the image, once the padding of the square is cut off.
    top, left = (128 - height) // 2, (128 - width) // 2
    assert 64 - top <= row < 80 - top
    assert 64 - left <= column < 80 - left
    far = np.ones(shape, bool)
    far[max(48 - top, 0) : 96 - top, max(48 - left, 0) : 96 - left] = False
    np.testing.assert_allclose(values[far], 0, atol=1e-9)


def test_the_model_explains_in_the_images_geometry(package_folder, scans):
    model = load_model(package_folder)
    rows = model.predict([*scans, b"broken"], explanations=True)
    for row, path in zip(rows, scans, strict=False):
        assert row.explanation is not None
        with PIL.Image.open(path) as image:
            assert row.explanation.shape == (image.height, image.width)
        assert np.abs(row.explanation).max() > 0
        assert np.abs(row.explanation).max() <= 1
    assert rows[-1].explanation is None
    plain = model.predict(scans)
    assert [row.explanation for row in plain] == [None] * len(scans)
    assert [row.probability for row in plain] == [row.probability for row in rows[:-1]]


def test_covering_by_hand_gives_the_same(package_folder):
    """The first place of an image of the network's own size, covered and predicted as any other image."""
    model = load_model(package_folder)
    image = speckle(32, 32, 7)
    row = model.predict([image], explanations=True)[0]
    covered = image.copy()
    covered[:4, :4] = round(image.mean())
    other = model.predict([covered])[0]
    assert row.explanation is not None
    assert row.probability is not None
    assert other.probability is not None
    assert row.explanation[0, 0] == pytest.approx(row.probability - other.probability, abs=1e-3)


def test_heat_is_red_for_and_blue_against():
    values = np.array([[0.2, -0.1], [0.0, 0.1]], np.float32)
    pixels = np.asarray(PIL.Image.open(io.BytesIO(heat_png(values))))
    assert pixels.tolist() == [[[255, 0, 0, 255], [0, 0, 255, 128]], [[0, 0, 0, 0], [255, 0, 0, 128]]]
