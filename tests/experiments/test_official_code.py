"""The profile `official-code` is what the released scripts do: each setting of each file, against the plan's specs."""

from __future__ import annotations

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import Adam, Augmentation, Config, CrossEntropy, Plateau, Sgd, Training
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.models.zoo import NETWORKS
from bus_mlops.project import parse_config
from bus_mlops.spec import RunSpec

ADAM, SGD = Adam(learning_rate=1e-5), Sgd(learning_rate=2e-3, momentum=0.9)
CHANGES = Augmentation(horizontal_flip=True, height_shift=0.2, width_shift=0.2, rotation=20)
# Common to all files: 50 epochs of batches of 32 at 224 pixels from ImageNet, dropout .3.
FILE = Training(scaling="raw255", augmentation=CHANGES, optimizer=ADAM, epochs=50, batch_size=32, dropout=0.3)
# The files of the classifiers; 15 % validate, as the folds of the profile.
SINGLE = {"head_initializer": "he_normal", "loss": CrossEntropy(positive_weight=3)}
PLATEAU = Plateau(factor=0.1, patience=15, minimum=1e-6, min_delta=1e-4)
MULTI = {"scaling": "unit", "plateau": PLATEAU, "validation": 0.2}
GENERIC = {
    **MULTI,
    "steps_per_epoch": 200,
    "kept_epoch": "last",
    "augmentation": Augmentation(),
    "loss": CrossEntropy(positive_weight=3, classification_weight=3),
}
FILES = {
    "mobilenet": SINGLE,
    "efficientnetb0": SINGLE,
    "densenet121": {**SINGLE, "loss": CrossEntropy(positive_weight=4)},
    "resnet50": {**SINGLE, "epochs": 5},
    "vgg16": {**SINGLE, "optimizer": SGD},
    "xception": {**SINGLE, "optimizer": SGD, "input_size": 299},
    "inceptionv3": {**SINGLE, "optimizer": SGD, "input_size": 299},
    "mobilenet_multitask": GENERIC,
    "efficientnetb0_multitask": GENERIC,
    "densenet121_multitask": GENERIC,
    "resnet50_multitask": GENERIC,
    "vgg16_multitask": GENERIC,
    "mt_estan": {
        **MULTI,
        "steps_per_epoch": 210,
        "dropout": 0.5,
        "loss": CrossEntropy(positive_weight=3, classification_weight=1.5),
    },
}


@pytest.fixture(scope="module")
def official() -> Config:
    return parse_config(yaml.safe_load(profiles.text("official-code")))


@pytest.fixture(scope="module")
def paper() -> Config:
    return parse_config(yaml.safe_load(profiles.text("paper")))


def spec_of(config: Config, network: str) -> RunSpec:
    return make_spec(config, network, "multitask" if NETWORKS[network].task.segments else "all")


@pytest.mark.parametrize("network", FILES)
def test_a_network_is_trained_as_its_file_says(official, network):
    assert spec_of(official, network).training == FILE.model_copy(update=FILES[network])


def test_classifiers_validate_on_15_percent_of_colour_images(official):
    assert official.folds.validation == 0.15
    assert official.data.color == "rgb"


def test_what_was_never_released_is_as_in_the_paper(official, paper):
    """But for the images that validate: the profile's folds have the classifiers' fraction."""
    networks = set(official.networks) - set(FILES)
    assert networks == {"sha_mtl", "vakanski", "emt_net", "estan"}
    for network in networks:
        ours = spec_of(official, network).training
        assert ours.validation == paper.folds.validation
        assert ours.model_copy(update={"validation": None}) == spec_of(paper, network).training


def test_the_rows_of_table_7_are_the_files_but_for_the_rate_of_nadam(official):
    specs = [row.spec for row in make_plans(official)["optimizers"].rows]
    for network in [name for name in FILES if not NETWORKS[name].task.segments]:
        of_network = {spec.training.optimizer.name: spec.training for spec in specs if spec.network == network}
        file = FILE.model_copy(update=FILES[network])
        assert of_network[file.optimizer.name] == file
        assert of_network["nadam"].optimizer.learning_rate == 1e-3


def test_the_comparators_of_table_8_differ_from_them_in_the_decoder_and_the_loss(official):
    rows = make_plans(official)["multitask"].rows
    for single, multi in zip(rows[::2], rows[1::2], strict=True):
        assert multi.spec.network == f"{single.spec.network}_multitask"
        assert single.spec.training == multi.spec.training.model_copy(update={"loss": CrossEntropy()})
