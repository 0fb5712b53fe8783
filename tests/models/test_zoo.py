"""The registry: stored facts against built networks, sizes, titles, and errors that say what is possible."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from projects import ROOT

from bus_mlops.errors import NetworkError
from bus_mlops.models import zoo
from bus_mlops.models.entry import NetworkEntry, Options
from bus_mlops.spec import RunSpec, Task
from bus_mlops.testing.networks import check_built_network, check_entry, check_network, network_spec

# From the specification: parameters of all layers; 10^9 multiply-accumulates, in the digits that it prints; the side
# in pixels that these are for.
FACTS = {
    "mobilenet": (3_786_561, None, 224),
    "efficientnetb0": (4_738_340, None, 224),
    "densenet121": (7_595_201, None, 224),
    "resnet50": (24_669_697, None, 224),
    "vgg16": (15_010_241, None, 224),
    "xception": (21_943_465, None, 299),
    "inceptionv3": (22_884_769, None, 299),
    "mobilenet_multitask": (4_873_554, "2.3", 224),
    "efficientnetb0_multitask": (5_907_253, "2.3", 224),
    "densenet121_multitask": (9_312_978, "5.1", 224),
    "resnet50_multitask": (26_387_474, "6.1", 224),
    "vgg16_multitask": (16_484_306, "17.8", 224),
    "sha_mtl": (8_274_790, "3.48", 224),
    "vakanski": (27_314_626, "56.9", 256),
    "emt_net": (5_108_650, "1.4", 224),
    "mt_estan": (55_980_162, "29.1", 224),
    "estan": (26_992_385, "34.5", 256),
}
# Seconds of building each.
SLOW = {"efficientnetb0", "densenet121", "inceptionv3", "efficientnetb0_multitask", "densenet121_multitask", "sha_mtl"}
EVERY = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in FACTS]
QUICK = ("linear_probe_mobilenet",)
LATER = sorted(name for name, network in zoo.NETWORKS.items() if network.since_the_paper)
SINCE = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LATER]
# Of the probes one: each is a backbone, which test_classifiers.py checks, below one layer.
CONTRACTS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LATER if not zoo.entry(name).probe)]
PROBED = ["malignancy_logit/kernel", "malignancy_logit/bias"]
WITH_DECODER = [name for name in FACTS if zoo.entry(name).task.segments]


def allowed_sizes(network: NetworkEntry) -> list[int]:
    """Those of 64 to 299 px."""
    return [size for size in range(64, 300) if size >= network.minimum and size % network.multiple == 0]


def test_every_network_of_the_paper_is_there():
    assert {name for name, network in zoo.NETWORKS.items() if not network.since_the_paper} == set(FACTS)
    assert [name for name in FACTS if zoo.entry(name).task is Task.CLASSIFICATION] == list(FACTS)[:7]
    assert [name for name in FACTS if zoo.entry(name).task is Task.SEGMENTATION] == ["estan"]


@pytest.mark.parametrize("name", EVERY)
def test_stored_facts_are_those_of_the_network_and_of_the_specification(name):
    from bus_mlops.models.cost import multiply_accumulates

    parameters, gmac, size = FACTS[name]
    network = zoo.entry(name)
    model = zoo.build(network_spec(name, input_size=network.input_size, scaling=network.scaling))
    assert network.input_size == size
    assert network.parameters == model.count_params() == parameters
    assert network.gmac == round(multiply_accumulates(model) / 1e9, 3)
    if gmac is not None:
        assert f"{network.gmac:.{len(gmac.split('.')[1])}f}" == gmac


@pytest.mark.parametrize("name", SINCE)
def test_what_came_since_has_its_stored_facts(name):
    from bus_mlops.models.cost import multiply_accumulates

    network = zoo.entry(name)
    check_entry(network)
    model = zoo.build(network_spec(name, input_size=network.input_size, scaling=network.scaling))
    assert network.parameters == model.count_params()
    assert network.gmac == round(multiply_accumulates(model) / 1e9, 3)
    if network.probe:
        assert [variable.path for variable in model.trainable_weights] == PROBED


@pytest.mark.parametrize("name", CONTRACTS)
def test_what_came_since_keeps_the_contract_of_networks(name):
    check_built_network(network_spec(name), zoo.build(network_spec(name)))


def test_networks_for_ultrasound_know_their_row_of_the_paper():
    from bus_mlops.evaluation.paper.published import paper_row

    names = {name: zoo.entry(name).published or zoo.entry(name).label for name in ("emt_net", "sha_mtl", "vakanski")}
    assert names == {"emt_net": "Shi et al. [36]", "sha_mtl": "Zhang et al. [35]", "vakanski": "Vakanski et al. [34]"}
    assert all(paper_row(9, name, "Multi") for name in names.values())


@pytest.mark.parametrize("name", FACTS)
def test_contracts_are_checked_at_the_smallest_size(name):
    """At which the tests of each kind of network build it."""
    assert network_spec(name).training.input_size == allowed_sizes(zoo.entry(name))[0]


@pytest.mark.parametrize("name", FACTS)
def test_other_sizes_are_refused_with_the_rule_and_the_papers_size(name):
    network = zoo.entry(name)
    allowed = allowed_sizes(network)
    assert allowed[0] <= 96
    assert allowed[-1] >= 288
    for size in sorted(set(range(20, 300)) - {*allowed, *range(network.minimum, 64)}):
        with pytest.raises(
            NetworkError, match=rf"input_size of {name} must be .* got {size}\. The paper uses {FACTS[name][2]}"
        ):
            network.check_size(size)


@pytest.mark.parametrize("name", [name for name in WITH_DECODER if name not in SLOW])
def test_a_decoder_cannot_be_built_at_the_sizes_that_are_refused(name):
    """What is refused is what the architecture cannot do, one step of its coarsest stride but one away."""
    network = zoo.entry(name)
    module, function = network.builder.split(":")
    build = getattr(importlib.import_module(module), function)
    with pytest.raises(ValueError, match=r"Concatenate|incompatible shapes"):
        build(input_size=96 + network.multiple // 2, scaling="unit", dropout=0.5, **network.complete({}))


def test_the_list_needs_neither_keras_nor_tensorflow():
    code = (
        "import sys; sys.argv = ['bus-mlops', 'models']; from bus_mlops.cli.app import app; app(standalone_mode=False);"
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["mt_estan", "multitask", "55,980,162", "29.06", "224", "px", "unit"] in lines
    assert ["estan", "segmentation", "26,992,385", "34.45", "256", "px", "unit"] in lines
    assert {line[0] for line in lines if line} >= set(FACTS)
    assert "    SHA-MTL: reconstruction: " in done.stdout
    assert "options: upsampling transposed | repeat; units_1 512 (1-4096); units_2 64 (0-4096)" in words(done.stdout)
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def words(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def test_titles_spell_out_options_but_for_defaults_that_need_no_name():
    assert zoo.entry("mobilenet").title({}) == "MobileNet"
    assert zoo.entry("emt_net").title({}) == "EMT-Net"
    assert zoo.entry("emt_net").title({"decoder": "transposed"}) == "EMT-Net (transposed)"
    assert zoo.entry("vakanski").title({"topology": "published"}) == "Vakanski (published)"
    # The encoder is in every name.
    assert zoo.entry("mt_estan").title({"width": 1.0, "encoder": "resnet50"}) == "MT-ESTAN (resnet50)"
    assert zoo.entry("mt_estan").title({"width": 0.25}) == "MT-ESTAN (resnet50, width 0.25)"
    assert zoo.entry("mt_estan").title({"width": 0.25, "encoder": "mobilenet"}) == "MT-ESTAN (mobilenet, width 0.25)"


def unknown(name: str) -> RunSpec:
    return network_spec("mobilenet").model_copy(update={"network": name})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (unknown("vgg99"), ("vgg99", "mobilenet", "mt_estan")),
        (network_spec("mt_estan", {"widht": 0.5}), ("widht", "width", "encoder")),
        (network_spec("mobilenet", {"width": 0.5}), ("width", "units_1, units_2")),
        (network_spec("sha_mtl", {"units_2": 32}), ("units_2", "hard_attention, units_1")),
        (network_spec("mobilenet", {"units_1": 0}), ("units_1", "between 1 and 4096", "0")),
        (network_spec("mobilenet", {"units_2": 64.5}), ("units_2", "whole number", "64.5")),
        (network_spec("vgg16", {"units_2": True}), ("units_2", "whole number", "True")),
        (network_spec("estan", {"units_1": 64}), ("units_1", "width")),
        (network_spec("mt_estan", {"width": 0.0}), ("width", "0.0625", "0.0")),
        (network_spec("mt_estan", {"width": "wide"}), ("width", "'wide'")),
        (network_spec("mt_estan", {"width": True}), ("width", "True")),
        (network_spec("mt_estan", {"encoder": "vgg16"}), ("encoder", "resnet50", "vgg16")),
        (network_spec("mt_estan", input_size=100), ("multiple of 32", "100")),
        (network_spec("mt_estan", input_size=32), ("64 or more", "32")),
        (network_spec("sha_mtl", {"hard_attention": "soft"}), ("hard_attention", "mask_gate, supervision", "soft")),
        (network_spec("vakanski", {"topology": "vgg"}), ("topology", "table3, published", "vgg")),
        (network_spec("vakanski", weights="imagenet", scaling="unit"), ("weights of vakanski", "pretrained", "random")),
        (network_spec("estan", scaling="radimagenet"), ("scaling of estan cannot be radimagenet", "unit")),
        (
            network_spec("mobilenet", weights="radimagenet", scaling="radimagenet"),
            ("RadImageNet weights of mobilenet", "densenet121, resnet50, inceptionv3"),
        ),
        (
            network_spec("mt_estan", {"encoder": "mobilenet"}, weights="radimagenet", scaling="unit"),
            ("no RadImageNet weights of mobilenet", "networks.mt_estan.weights"),
        ),
        (
            network_spec("resnet50", weights="radimagenet", scaling="imagenet"),
            ("weights radimagenet were not made with scaling imagenet", "to radimagenet, unit or raw255"),
        ),
        (network_spec("estan", scaling="imagenet"), ("scaling of estan", "pretrained", "unit")),
        (
            network_spec("mt_estan").model_copy(update={"task": Task.CLASSIFICATION}),
            ("multitask", "classification"),
        ),
        (network_spec("mobilenet").model_copy(update={"code": "1f"}), ("mobilenet", "changed", "anew")),
    ],
)
def test_what_cannot_be_built_is_an_error_that_says_what_can(wrong, words):
    with pytest.raises(NetworkError) as caught:
        zoo.build(wrong)
    for word in words:
        assert word in str(caught.value)


def test_resolve_fills_in_defaults():
    assert zoo.entry("mt_estan").resolve({"width": 1}) == {"width": 1.0, "encoder": "resnet50"}
    assert isinstance(zoo.entry("mt_estan").resolve({"width": 1})["width"], float)
    with pytest.raises(NetworkError, match="twice"):
        zoo.register(zoo.entry("mobilenet"))


# A head of the network's own: what it is called, what its options must be, and the units that it then has.
HEADS = [
    ("mobilenet", {}, (512, 64)),
    ("vgg16_multitask", {"upsampling": "repeat"}, (512, 64)),
    ("sha_mtl", {}, (64,)),
    ("emt_net", {}, (512, 64)),
    ("emt_net", {"decoder": "transposed"}, (128, 0)),
    ("vakanski", {}, (64, 64)),
    ("vakanski", {"topology": "published"}, (256, 64)),
    ("mt_estan", {}, (512, 128)),
    ("mt_estan", {"width": 0.25}, (128, 32)),
]


@pytest.mark.parametrize(("name", "options", "own"), HEADS)
def test_units_of_a_head_are_in_a_spec_only_if_they_are_not_the_networks_own(name, options, own):
    """They came after runs had been recorded, whose specs know nothing of them."""
    network = zoo.entry(name)
    plain = network.resolve(options)
    units = {f"units_{number}": count for number, count in enumerate(own, start=1)}
    assert {key: network.complete(options)[key] for key in units} == units
    assert not set(units) & set(plain)
    assert network.resolve(options | units) == plain
    assert network.title(options | units) == network.title(options)
    changed = network.resolve(options | {"units_1": 32.0})
    assert changed == plain | {"units_1": 32}
    assert isinstance(changed["units_1"], int)
    assert "units_1 32" in network.title(options | {"units_1": 32})
    one, other = (network_spec(name, each) for each in (plain, changed))
    assert one.program_key() != other.program_key()
    assert one.fingerprint("data", "folds") != other.fingerprint("data", "folds")
    assert RunSpec.model_validate_json(other.model_dump_json()) == other


@pytest.mark.parametrize(
    ("name", "options", "units"),
    [
        ("mobilenet", {"units_1": 96, "units_2": 0}, [96]),
        ("emt_net", {"decoder": "transposed", "units_2": 16}, [128, 16]),
        ("mt_estan", {"encoder": "mobilenet", "width": 0.0625, "units_2": 24}, [32, 24]),
        ("vakanski", {"topology": "published", "units_1": 48}, [48, 64]),
    ],
)
def test_a_head_has_the_units_that_are_asked_for(name, options, units):
    model = zoo.build(network_spec(name, options))
    assert [layer.units for layer in model.layers if layer.name.startswith("class_dense")] == units


def test_a_network_with_another_head_keeps_the_contract_and_is_exported():
    check_network("mobilenet", {"units_1": 96, "units_2": 0})


def test_a_narrow_mobilenet_says_so_and_keeps_the_fingerprints_of_the_whole_one():
    for name in ("mobilenet", "mobilenet_multitask", "emt_net"):
        network = zoo.entry(name)
        assert "alpha" not in network.resolve({"alpha": 1})
        assert network.title({"alpha": 0.25}).endswith("(alpha 0.25)")
        assert network.backbone_of({"alpha": 0.25}) == "mobilenet_0_25"
    narrow = zoo.build(network_spec("mobilenet", {"alpha": 0.25}))
    assert narrow.count_params() == 218_544 + 256 * 512 + 512 + 512 * 64 + 64 + 64 + 1
    options: Options = {"encoder": "mobilenet", "alpha": 0.5, "width": 0.25}
    assert zoo.entry("mt_estan").title(options) == "MT-ESTAN (mobilenet, alpha 0.5, width 0.25)"
    with pytest.raises(NetworkError, match=r"mt_estan.options.alpha has an effect only with encoder mobilenet, but"):
        zoo.entry("mt_estan").resolve({"alpha": 0.5})
    with pytest.raises(NetworkError, match=r"densenet121.options.alpha is unknown"):
        zoo.entry("densenet121").resolve({"alpha": 0.5})
