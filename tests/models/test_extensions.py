"""Networks of the user's own: registered from a folder, told apart by their code, refused if training would fail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from projects import ROOT

from bus_mlops.errors import ExtensionError, NetworkError
from bus_mlops.extensions import load_extensions
from bus_mlops.models import zoo
from bus_mlops.paths import EXTENSIONS
from bus_mlops.testing.networks import network_spec

HEAD = """
from bus_mlops.models.extensions import network

@network(label="Mine", task="{task}", input_size=64, source="ours")
def mine(*, input_size, scaling, dropout):
    import keras
    from keras import layers
    image = keras.Input((input_size, input_size, 3), name="image")
"""
GOOD = (
    HEAD
    + """
    x = layers.GlobalAveragePooling2D()(image)
    x = layers.Dense(1, name="malignancy_logit")(x)
    return keras.Model(image, {{"malignancy": layers.Activation("sigmoid")(x)}})
"""
)
WRONG = {
    "no dict": ("x = layers.Dense(1)(layers.Flatten()(image)); return keras.Model(image, x)", "a dict"),
    "no model": ("return image", "functional Keras model"),
    "no logit": (
        'x = layers.Dense(1)(layers.Flatten()(image)); return keras.Model(image, {{"malignancy": x}})',
        "no layer malignancy_logit",
    ),
    "other outputs": (
        'x = layers.Dense(2, name="malignancy_logit")(layers.Flatten()(image)); '
        'return keras.Model(image, {{"malignancy": x}})',
        r"\(None, 2\)",
    ),
    "a model as a layer": (
        "inner = keras.Sequential([layers.Flatten(), layers.Dense(4)], name='inner'); "
        'x = layers.Dense(1, name="malignancy_logit")(inner(image)); return keras.Model(image, {{"malignancy": x}})',
        "'inner' as one layer.*input_tensor",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder of extensions; what was loaded from it is forgotten afterwards."""
    yield tmp_path
    load_extensions(tmp_path / "nothing")
    assert "mine" not in zoo.NETWORKS


def write(folder: Path, text: str, task: str = "classification", name: str = "mine") -> Path:
    path = folder / f"{name}.py"
    path.write_text(text.format(task=task))
    return path


def test_a_file_is_loaded_changed_and_forgotten(folder):
    path = write(folder, GOOD)
    load_extensions(folder)
    first = zoo.entry("mine")
    assert (first.label, first.task, first.backbone) == ("Mine", "classification", "")
    assert first.code == hashlib.sha256(path.read_bytes()).hexdigest()
    model = zoo.build(network_spec("mine", scaling="unit").model_copy(update={"code": first.code}))
    assert model.count_params() == 4
    load_extensions(folder)
    assert zoo.entry("mine") is first
    path.write_text(path.read_text() + "# changed\n")
    load_extensions(folder)
    assert zoo.entry("mine").code != first.code
    path.unlink()
    load_extensions(folder)
    with pytest.raises(NetworkError, match="mine"):
        zoo.entry("mine")
    assert list(folder.iterdir()) == []  # no cache is left in the folder, which DVC watches


@pytest.mark.parametrize("end", ["raise ValueError('no')", "raise SystemExit('no')"])
def test_a_file_that_ends_half_way_leaves_nothing(folder, end):
    path = write(folder, GOOD + end + "\n")
    for _ in range(2):
        with pytest.raises(ExtensionError, match=r"mine\.py cannot be run: \w+: no"):
            load_extensions(folder)
        assert "mine" not in zoo.NETWORKS
    path.write_text(path.read_text().removesuffix(end + "\n"))
    load_extensions(folder)
    assert "mine" in zoo.NETWORKS


def test_its_code_is_part_of_what_identifies_a_run(folder):
    write(folder, GOOD)
    load_extensions(folder)
    spec = network_spec("mine", scaling="unit")
    one, other = (spec.model_copy(update={"code": code}) for code in ("a" * 64, "b" * 64))
    assert one.fingerprint("data", "folds") != other.fingerprint("data", "folds")
    assert one.program_key() != other.program_key()
    with pytest.raises(NetworkError, match="mine has changed since the run was planned"):
        zoo.build(one)
    # The platform's own networks are identified as if there were no extensions.
    assert "code" not in network_spec("mobilenet").canonical()


@pytest.mark.parametrize("case", WRONG)
def test_what_training_could_not_use_is_refused(folder, case):
    body, message = WRONG[case]
    write(folder, f"{HEAD}    {body}\n")
    load_extensions(folder)
    spec = network_spec("mine", scaling="unit").model_copy(update={"code": zoo.entry("mine").code})
    with pytest.raises(NetworkError, match=f"^mine .*{message}"):
        zoo.build(spec)


def test_a_multitask_network_must_give_masks(folder):
    write(folder, GOOD, task="multitask")
    load_extensions(folder)
    spec = network_spec("mine", scaling="unit").model_copy(update={"code": zoo.entry("mine").code})
    with pytest.raises(NetworkError, match="'mask': \\(None, 64, 64, 1\\)"):
        zoo.build(spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere", "ModuleNotFoundError.*nowhere"),
        ("def broken(:", "SyntaxError"),
        (GOOD.replace("mine", "mobilenet"), "'mobilenet' is registered twice"),
        (GOOD.replace("{task}", "guessing"), "classification, multitask, segmentation but got 'guessing'"),
    ],
)
def test_a_file_that_cannot_be_run_is_named(folder, text, message):
    path = write(folder, text)
    known = dict(zoo.NETWORKS)
    with pytest.raises(ExtensionError, match=rf"{path.name} cannot be run: .*{message}"):
        load_extensions(folder)
    assert known == zoo.NETWORKS


def test_one_name_in_two_files_is_an_error(folder):
    for name in ("one", "two"):
        write(folder, GOOD, name=name)
    with pytest.raises(ExtensionError, match=r"two\.py .*'mine' is registered twice"):
        load_extensions(folder)


def test_the_plan_is_made_anew_when_a_file_of_the_folder_changes():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert str(EXTENSIONS) in stages["plan"]["deps"]
    assert (ROOT / EXTENSIONS).is_dir()  # DVC stops at a dependency that is not there
