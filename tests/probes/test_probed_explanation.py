"""A network that looks at the lesion scores 1 in the pointing game, one that looks at a corner 0."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from bus_mlops.models.framework import keras, layers, ops
from bus_mlops.probes.explanation import explain, point
from bus_mlops.probes.network import NetworkOpener, ProbedNetwork

SIDE = 64
LESION, CORNER = (slice(24, 40), slice(32, 48)), (slice(0, 8), slice(0, 8))


def looking_at(place: tuple[slice, slice]) -> ProbedNetwork:
    """A network whose log odds are how bright a place is; it has a mask, which is all of the image."""
    image = keras.Input((SIDE, SIDE, 3), name="image")
    rows, columns = place
    seen = layers.GlobalAveragePooling2D()(image[:, rows, columns])
    logit = layers.Dense(1, kernel_initializer=keras.initializers.Constant(0.05), name="malignancy_logit")(seen)
    mask = layers.Activation("sigmoid", name="mask")(ops.zeros_like(image[..., :1]) + 5.0)
    malignancy = layers.Activation("sigmoid", name="malignancy")(logit - 10.0)
    return ProbedNetwork(keras.Model(image, {"malignancy": malignancy, "mask": mask}))


@pytest.fixture(scope="module")
def scan() -> tuple[np.ndarray, np.ndarray]:
    """An image whose lesion is brighter than the rest, and the lesion's mask."""
    image, mask = np.random.default_rng(0).integers(40, 60, (SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
    mask[LESION] = 1
    image[LESION] += 150
    image[CORNER] += 150
    return image.astype(np.uint8), mask


@pytest.mark.parametrize(("place", "hit"), [(LESION, True), (CORNER, False)])
def test_the_place_that_a_network_looks_at_decides_the_game(scan, place, hit):
    image, mask = scan
    network = looking_at(place)
    answers = network(image[np.newaxis])
    heat = explain(network, image, float(answers.logits[0]))
    found = point(heat, mask)
    assert found.hit is hit
    assert (found.energy > 0.5) is hit
    assert found.chance == pytest.approx(16 * 16 / SIDE**2)
    assert found.centre is True
    assert answers.masks is not None
    assert point(heat, (answers.masks[0] >= 0.5).astype(np.uint8)).hit  # all of the image is its own lesion


def test_evidence_is_that_for_the_answer_given(scan):
    """Of an image that is called benign, it is what would make it malignant once covered: nothing bright does here."""
    image, mask = scan
    network = looking_at(LESION)
    logit = float(network.logits(image[np.newaxis])[0])
    darker = ProbedNetwork(_shifted(network, -2 * logit))
    heat = explain(darker, image, -logit)
    np.testing.assert_allclose(heat, -explain(network, image, logit), atol=1e-4)
    assert not point(heat, mask).hit


def _shifted(network: ProbedNetwork, by: float) -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3), name="image")
    logit = layers.Rescaling(1.0, offset=by, name="malignancy_logit")(network._model(image)["logit"])
    return keras.Model(image, {"malignancy": layers.Activation("sigmoid", name="malignancy")(logit)})


def test_a_map_without_evidence_hits_nothing():
    mask = np.ones((SIDE, SIDE), np.uint8)
    nothing = point(np.full((SIDE, SIDE), -1.0, np.float32), mask)
    assert (nothing.hit, nothing.energy, nothing.chance) == (False, 0.0, 1.0)


def test_an_attack_raises_the_loss_within_its_bounds(scan):
    image, _ = scan
    network = looking_at(LESION)
    images, labels = np.stack([image, image]), np.array([0, 1])
    before, losses = network.logits(images), []
    for epsilon in (2.0, 8.0):
        attacked = network.attacked(images, labels, epsilon)
        assert np.abs(attacked - images).max() <= epsilon
        assert attacked.min() >= 0
        assert attacked.max() <= 255
        losses.append(np.logaddexp(0, np.where(labels == 1, -1, 1) * network.logits(attacked)))
    assert (losses[1] > losses[0]).all()
    assert (losses[0] > np.logaddexp(0, np.where(labels == 1, -1, 1) * before)).all()
    colours = np.repeat(images[..., np.newaxis], 3, axis=-1)
    np.testing.assert_allclose(network.attacked(colours, labels, 2.0)[..., 0], network.attacked(images, labels, 2.0))


def test_what_is_built_alike_is_opened_once_and_answers_with_its_own_weights(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    opened, seen, answers = NetworkOpener(), [], []
    for number, (units, seed) in enumerate(((4, 1), (4, 2), (5, 3), (4, 1))):
        network, path = _plain(units, seed), tmp_path / f"{number}.keras"
        network.save(path)
        seen.append(opened(path))
        answers.append(seen[-1].logits(images))
        np.testing.assert_allclose(answers[-1], ProbedNetwork(network).logits(images), rtol=1e-6)
    assert seen[0] is seen[1]
    assert len({id(each) for each in seen}) == 3, "of another network in between nothing is kept"
    assert not np.allclose(answers[0], answers[1])


def _plain(units: int, seed: int) -> keras.Model:
    image = keras.Input((8, 8, 3), name="image")
    start = [keras.initializers.GlorotUniform(seed=seed + k) for k in range(2)]
    hidden = layers.Dense(units, "relu", name="hidden", kernel_initializer=start[0])(layers.Flatten(name="flat")(image))
    logit = layers.Dense(1, name="malignancy_logit", kernel_initializer=start[1])(hidden)
    return keras.Model(image, {"malignancy": layers.Activation("sigmoid", name="malignancy")(logit)}, name="plain")
