"""What a package says is checked before it is believed, and what was checked is what answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_package import speckle

from bus_mlops.consumer import package_files
from bus_mlops.consumer.client import BusModel, load_model
from bus_mlops.consumer.package_files import open_package, write_sums
from bus_mlops.errors import DamagedPackageError, RegistryError


@pytest.fixture
def copy(package_folder, tmp_path) -> Path:
    return Path(shutil.copytree(package_folder, tmp_path / "copy"))


def says(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change package.json and sum it up again, as somebody would who makes a package of his own."""

    def apply(folder: Path) -> None:
        values = json.loads((folder / "package.json").read_text())
        change(values)
        (folder / "package.json").write_text(json.dumps(values))
        write_sums(folder)

    return apply


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def lists(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with (folder / "SHA256SUMS").open("a") as stream:
            stream.write(f"{'0' * 64}  {name}\n")

    return apply


def linked(folder: Path) -> None:
    """A file that is the right one, by way of a link out of the folder."""
    path = folder / "members/fold_1.onnx"
    (folder.parent / "outside.onnx").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(folder.parent / "outside.onnx")


def linked_folder(folder: Path) -> None:
    (folder / "members").rename(folder.parent / "elsewhere")
    (folder / "members").symlink_to(folder.parent / "elsewhere")


def piped(folder: Path) -> None:
    (folder / "example.png").unlink()
    os.mkfifo(folder / "example.png")


def huge(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with (folder / name).open("r+b") as stream:
            stream.truncate(2**40)  # a hole: it takes no room

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (says(lambda p: p.update(input_size=10**9)), "input_size: .* less than or equal to 4096"),
        (says(lambda p: p.update(members=p["members"] * 1000)), "members: .* at most 200 items"),
        (says(lambda p: p.update(members=p["members"][:1] * 2)), "each member has files of its own"),
        (says(lambda p: p["members"][0].update(onnx="../../etc/passwd")), "no path within the package"),
        (says(lambda p: p["members"][0].update(onnx="/etc/passwd")), "no path within the package"),
        (says(lambda p: p["members"][0].update(onnx="a/../../b")), "no path within the package"),
        (says(lambda p: p["members"][0].update(onnx="C:\\x")), "no path within the package"),
        (says(lambda p: p["members"][0].update(onnx="members/other.onnx")), r"other\.onnx is not listed"),
        (says(lambda p: p.update(outputs=["mask"])), "outputs: .*malignancy"),
        (says(lambda p: p.update(threshold=1.5)), "threshold: .* less than or equal to 1"),
        (says(lambda p: p.update(threshold=float("nan"))), "threshold: "),
        (says(lambda p: p.update(lineage=nested(20))), "lineage: .*deeper than 8"),
        (says(lambda p: p.update(lineage=nested(900))), "recursion|deeper"),
        (says(lambda p: p.update(trained_on="x" * 2**21)), r"package\.json has .* bytes, more than any"),
        (says(lambda p: p.update(surprise=1)), "surprise"),
        (huge("members/fold_1.onnx"), r"fold_1\.onnx has 1099511627776 bytes"),
        (huge("members/fold_1.keras"), r"fold_1\.keras has 1099511627776 bytes"),
        (huge("example.png"), r"example\.png has 1099511627776 bytes"),
        (huge("SHA256SUMS"), r"SHA256SUMS has 1099511627776 bytes"),
        (lambda f: (f / "run_me.py").write_text("x"), r"run_me\.py is not listed"),
        (lambda f: (f / "members" / "x" / "y").mkdir(parents=True) or (f / "members/x/y/z").touch(), "x/y/z is not li"),
        (lambda f: (f / "link").symlink_to("/etc"), "link is not listed"),
        (lists("../up"), "not a checksum line"),
        (lists("/etc/passwd"), "not a checksum line"),
        (lists("./example.png"), "not a checksum line"),
        (lists("example.png"), "not a checksum line"),
        (lists("a\\..\\b"), "not a checksum line"),
        (lists("gone"), "gone is missing"),
        (linked, "no links"),
        (linked_folder, "members is not listed"),
        (piped, r"example\.png is no regular file"),
    ],
)
def test_what_no_package_can_mean_is_refused_by_name(copy, change, message):
    change(copy)
    with pytest.raises(RegistryError, match=message):
        load_model(copy)


def test_more_lines_than_files_of_any_package_are_refused(copy):
    with (copy / "SHA256SUMS").open("a") as stream:
        stream.writelines(f"{'0' * 64}  {i}\n" for i in range(package_files.MAX_FILES))
    with pytest.raises(DamagedPackageError, match="SHA256SUMS:1001: not a checksum line"):
        open_package(copy)


def test_what_was_checked_is_what_answers(copy, package_folder):
    """Files exchanged after the check change nothing, and each was opened once."""
    opened: list[str] = []
    original = package_files._opened
    with pytest.MonkeyPatch.context() as patch:

        def noted(folder, name, use):
            opened.append(name)
            return original(folder, name, use)

        patch.setattr(package_files, "_opened", noted)
        model = load_model(copy)
    files = sorted(package_files.files_below(copy))
    assert sorted(opened) == files
    for name in files:
        (copy / name).write_bytes(b"exchanged")
    expected = load_model(package_folder)
    image = speckle(50, 60)
    assert model.check_example() < 1e-6
    assert model.digest == expected.digest
    assert model.predict([image])[0].probability == expected.predict([image])[0].probability


def test_networks_that_take_or_give_something_else_are_refused(copy):
    says(lambda p: p.update(input_size=64))(copy)
    with pytest.raises(RegistryError, match=r"takes .*\[32, 32, 3\].* but the package says 64 x 64"):
        load_model(copy).predict([speckle(50, 60)])


@pytest.mark.parametrize("value", [1.5, -0.25, float("nan"), float("inf")])
def test_an_answer_outside_0_to_1_is_an_error_of_its_image(copy, value):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = json.loads((copy / "package.json").read_text())["input_size"]
    one = numpy_helper.from_array(np.array([[value]], "float32"), "one")
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Slice", ["mean", "from", "to", "axis"], ["first"]),
        helper.make_node("Mul", ["first", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["malignancy"]),
    ]
    numbers = {"axes": [1, 2], "from": [0], "to": [1], "axis": [1]}
    initial = [helper.make_tensor(n, TensorProto.INT64, [len(v)], v) for n, v in numbers.items()]
    initial += [one, helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])]
    takes = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", size, size, 3])]
    gives = [helper.make_tensor_value_info("malignancy", TensorProto.FLOAT, ["batch", 1])]
    graph = helper.make_graph(nodes, "wrong", takes, gives, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(copy / "members/fold_1.onnx"))
    says(lambda p: p.update(outputs=["malignancy"]))(copy)
    row = load_model(copy).predict([speckle(50, 60)])[0]
    assert (row.probability, row.label, row.error_type) == (None, None, "ModelOutputError")


def test_a_network_that_names_a_file_outside_itself_is_not_followed(copy, monkeypatch):
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    path = copy / "members/fold_1.onnx"
    model = onnx.load(str(path))
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    monkeypatch.chdir(copy.parent)
    onnx.save(model, str(copy.parent / "fold_1.onnx"))
    shutil.move(copy.parent / "fold_1.onnx", path)
    assert (copy.parent / "weights.bin").is_file()
    write_sums(copy)
    with pytest.raises(RegistryError, match="takes weights from another file"):
        load_model(copy).predict([speckle(50, 60)])


def test_a_model_made_of_a_folder_opens_it_when_it_is_asked(package_folder, copy):
    """As the code of models does that were registered before packages were opened once."""
    package = open_package(package_folder, keep=False).package
    assert BusModel(package_folder, package).check_example() < 1e-6
    (copy / "example.png").write_bytes(b"exchanged")
    with pytest.raises(DamagedPackageError, match=r"example\.png was changed"):
        BusModel(copy, package).predict([speckle(50, 60)])
