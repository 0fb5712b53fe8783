"""Names of layers that do not depend on what the process has built before."""

from __future__ import annotations

import keras
import numpy as np

from bus_mlops.models.naming import is_counted, with_stable_names


def network() -> keras.Model:
    image = keras.Input((4, 4, 3), name="image")
    x = keras.layers.Normalization()(image)
    x = keras.layers.Conv2D(2, 1)(x)
    x = keras.layers.ReLU()(keras.layers.Conv2D(2, 1, name="mine")(x))
    x = keras.layers.Add()([x, keras.layers.Conv2D(2, 1)(x)])
    return keras.Model(image, {"mask": keras.layers.Activation("sigmoid", name="mask")(x)}, name="network")


def test_the_names_are_the_same_whatever_was_built_before():
    keras.layers.Conv2D(1, 1)
    renamed = with_stable_names(network())
    expected = ["image", "normalization", "conv2d", "mine", "re_lu", "conv2d_1", "add", "mask"]
    assert [layer.name for layer in renamed.layers] == expected
    keras.layers.Conv2D(1, 1)
    again = with_stable_names(network())
    assert [weight.path for weight in again.weights] == [weight.path for weight in renamed.weights]
    assert (renamed.name, renamed.input.name, list(renamed.output)) == ("network", "image", ["mask"])


def test_renaming_changes_no_number_and_not_the_network_given():
    keras.layers.Conv2D(1, 1)
    model = network()
    norm = model.layers[1]
    norm.load_own_variables({"0": np.full(3, 0.5), "1": np.full(3, 4.0), "2": np.zeros((), np.int32)})
    names = [layer.name for layer in model.layers]
    images = np.random.default_rng(0).uniform(size=(2, 4, 4, 3)).astype(np.float32)
    renamed = with_stable_names(model)
    assert renamed is not model
    np.testing.assert_array_equal(np.asarray(renamed(images)["mask"]), np.asarray(model(images)["mask"]))
    assert [layer.name for layer in model.layers] == names


def test_a_network_with_names_of_its_own_is_returned_as_it_is():
    image = keras.Input((4, 4, 3), name="image")
    model = keras.Model(image, keras.layers.ReLU(name="mine")(image))
    assert with_stable_names(model) is model


def test_a_counted_name_is_the_class_and_a_number():
    assert is_counted(keras.layers.Conv2D(1, 1))
    assert is_counted(keras.layers.BatchNormalization())
    assert is_counted(keras.layers.ReLU())
    assert not is_counted(keras.layers.Conv2D(1, 1, name="conv2d_a"))
    assert not is_counted(keras.layers.Conv2D(1, 1, name="block1_conv2d"))
