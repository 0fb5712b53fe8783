"""Initial weights depend on the cell's seed and the variable only, and are those of Keras's initializers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from small_cells import make_spec

from bus_mlops.errors import NetworkError
from bus_mlops.models import zoo
from bus_mlops.training.initialization import generators, reset_generators, reset_weights


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.weights]


SLOW = ("efficientnetb0", "xception", "densenet121", "resnet50", "vgg16", "inceptionv3", "efficientnetb0_multitask")
NETWORKS = ("mobilenet", "mt_estan", *SLOW)


@pytest.mark.parametrize(
    "network", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]
)
def test_each_kernel_is_drawn_anew_for_a_seed_as_keras_drew_it(network):
    """That two builds start alike is in the contract of networks."""
    model = zoo.build(make_spec(network, input_size=max(64, zoo.entry(network).minimum)))
    before = values(model)
    reset_weights(model, 1)
    first = values(model)
    reset_weights(model, 2)
    for path, a, b, built in zip((w.path for w in model.weights), first, values(model), before, strict=True):
        if "kernel" in path:
            assert np.abs(a - b).max() > 0, path
            if a.size > 500:  # the distribution that Keras drew from when it built the network
                assert a.std() == pytest.approx(built.std(), rel=0.2), path
        else:
            np.testing.assert_array_equal(a, built)


@pytest.mark.parametrize("network", ["mobilenet", "mt_estan"])
def test_hidden_layers_of_the_head_start_as_the_spec_says(network):
    """And no other kernel, nor the last one: a truncated normal of variance 2 / inputs, as the scripts' classifiers."""
    own, spec = (make_spec(network, head_initializer=name) for name in (None, "he_normal"))
    first, second = zoo.build(own), zoo.build(spec)
    reset_weights(first, 1)
    reset_weights(second, 1)
    changed = [w.path for w, a, b in zip(first.weights, values(first), values(second), strict=True) if np.any(a != b)]
    assert changed == ["class_dense_1/kernel", "class_dense_2/kernel"]
    kernel = np.array(second.get_layer("class_dense_1").kernel)
    assert kernel.std() == pytest.approx(np.sqrt(2 / kernel.shape[0]), rel=0.05)
    assert np.abs(kernel).max() > 1.8 * np.sqrt(2 / kernel.shape[0])  # glorot_uniform ends at its 1.73


def test_kernels_of_one_shape_are_drawn_apart():
    model = zoo.build(make_spec())
    reset_weights(model, 1)
    seen: dict[tuple[int, ...], list[np.ndarray]] = {}
    for weight in model.weights:
        if "kernel" in weight.path:
            seen.setdefault(tuple(weight.shape), []).append(np.array(weight))
    assert max(len(kernels) for kernels in seen.values()) > 3
    for kernels in seen.values():
        assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_what_is_kept_is_not_touched():
    model = zoo.build(make_spec())
    path = model.get_layer("conv1").weights[0].path
    before = np.array(model.get_layer("conv1").weights[0])
    reset_weights(model, 3, keep={path})
    np.testing.assert_array_equal(before, np.array(model.get_layer("conv1").weights[0]))


def test_dropout_repeats_after_a_reset():
    model = zoo.build(make_spec())

    def zeros(seed: int) -> np.ndarray:
        reset_generators(model, seed)
        return np.asarray(model.get_layer("class_dropout")(keras.ops.ones((4, 512)), training=True)) == 0

    first = zeros(1)
    assert 0.1 < first.mean() < 0.5
    np.testing.assert_array_equal(zeros(1), first)
    assert (zeros(2) != first).any()


def test_a_variable_without_initializer_is_an_error():
    class Odd(keras.layers.Layer):
        def build(self, shape):
            self.twist = self.add_weight(shape=(1,), initializer="zeros", name="twist")

        def call(self, x):
            return x + self.twist

    image = keras.Input((2,))
    with pytest.raises(NetworkError, match="twist"):
        reset_weights(keras.Model(image, Odd(name="odd")(image)), 0)


def test_every_layer_that_draws_at_random_starts_from_the_cells_seed():
    image = keras.Input((8, 8, 3))
    layers = keras.layers
    drawing = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.GaussianNoise(0.1), layers.Dropout(0.5)]
    x = image
    for layer in drawing:
        x = layer(x)
    model = keras.Model(image, layers.BatchNormalization()(x))
    assert len(generators(model)) == 4
    reset_generators(model, 3)
    first = [state.numpy().tolist() for state in generators(model).values()]
    model(np.ones((1, 8, 8, 3)), training=True)
    assert [state.numpy().tolist() for state in generators(model).values()] != first
    reset_generators(model, 3)
    assert [state.numpy().tolist() for state in generators(model).values()] == first
    assert len({tuple(state) for state in first}) == 4
