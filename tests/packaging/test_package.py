"""The package: equal to Keras, complete, without pickle or compile state, and logged as an MLflow model."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import pickletools
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from altered import png_of_header
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from tiny_package import METADATA, SIZE, speckle, tiny_network, write_refusing_package

from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.package_files import read_package
from bus_mlops.consumer.package_format import ARTIFACT, EXAMPLE_IMAGE, Calibration
from bus_mlops.errors import RegistryError
from bus_mlops.packaging.onnx_export import NetworkReader, export_onnx, is_bare, load_network
from bus_mlops.packaging.package import log_package, write_package
from bus_mlops.packaging.pyfunc import PYFUNC_FILE, pyfunc_options

OPTIONS: dict[str, Any] = {"input_size": SIZE, "color": "gray", "threshold": 0.5, "metadata": METADATA}


def is_pickle(data: bytes) -> bool:
    """Whether the bytes are a pickle of protocol 2 or later, or parse as one of an earlier protocol."""
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    try:
        return len(list(pickletools.genops(data))) > 1
    except Exception:
        return False


def contents(folder: Path):
    """Every file below a folder, those inside zip archives too."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    yield from ((name, archive.read(name)) for name in archive.namelist())


def test_package_describes_itself(package_folder):
    package = read_package(package_folder)
    assert [m.onnx for m in package.members] == ["members/fold_1.onnx", "members/fold_2.onnx"]
    assert package.has_mask
    assert package.phantom
    assert package.lineage == METADATA["lineage"]
    assert all(0 <= m.max_difference <= 1e-4 for m in package.members)
    assert "Research use only" in package.notice


def test_checksums_are_those_of_sha256sum(package_folder):
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=package_folder, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    files = sorted(str(p.relative_to(package_folder)) for p in package_folder.rglob("*") if p.is_file())
    listed = [line.split(":")[0] for line in checked.stdout.splitlines()]
    assert sorted([*listed, "SHA256SUMS"]) == files


def test_members_hold_no_compile_state(package_folder, members):
    with zipfile.ZipFile(members[0]) as archive:
        assert json.loads(archive.read("config.json")).get("compile_config")
    with zipfile.ZipFile(package_folder / "members/fold_1.keras") as archive:
        assert not json.loads(archive.read("config.json")).get("compile_config")
        assert b"optimizer" not in archive.read("model.weights.h5")


def test_only_a_member_that_holds_nothing_else_is_shipped_to_the_byte(alike, tmp_path):
    bare, more = tmp_path / "bare.keras", tmp_path / "more.keras"
    for source, target in zip(alike, (bare, more), strict=True):
        load_network(source).save(target)
        assert is_bare(target)
    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr("assets/notes.pkl", pickle.dumps("of a patient"))
    sources = (bare, more)
    folder = write_package(tmp_path / "package", sources, example_image=speckle(90, 120), **OPTIONS)
    shipped = [folder / member.keras for member in read_package(folder).members]
    assert [each.read_bytes() == source.read_bytes() for each, source in zip(shipped, sources, strict=True)] == [
        True,
        False,
    ]
    assert is_bare(shipped[1])
    package = load_model(folder)
    images = np.random.default_rng(3).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    for number, source in enumerate(sources):
        network = load_network(source)
        expected = np.asarray(network(images.astype(np.float32), training=False)["malignancy"])[:, 0]
        np.testing.assert_allclose(package.raw(number, images), expected, atol=1e-4)


@pytest.mark.parametrize("holds", ["compile state", "nothing", "no zip"])
def test_what_holds_more_or_less_than_a_network_is_not_bare(members, tmp_path, holds):
    path = tmp_path / "network.keras"
    if holds == "compile state":
        shutil.copyfile(members[0], path)
    elif holds == "nothing":
        zipfile.ZipFile(path, "w").close()
    else:
        path.write_bytes(b"PK, but no archive")
    assert not is_bare(path)


def test_no_pickle_anywhere(package_folder, tiny_registry):
    assert is_pickle(pickle.dumps({"a": 1}))
    assert is_pickle(pickle.dumps([1, 2], protocol=0))
    logged = list(tiny_registry.artifacts.rglob("package.json"))
    assert len(logged) == 2
    for folder in (package_folder, tiny_registry.artifacts):
        for name, data in contents(folder):
            assert Path(name).suffix not in (".pkl", ".pickle", ".joblib", ".dill"), name
            assert not is_pickle(data), name


def test_example_prediction_is_reproduced(package_folder):
    assert load_model(package_folder).check_example() < 1e-6


def test_export_equals_keras_in_both_outputs(members, tmp_path):
    import keras
    import onnxruntime

    difference = export_onnx(members[0], tmp_path / "m.onnx")
    assert 0 <= difference <= 1e-4
    network = keras.saving.load_model(members[0], compile=False)
    images = np.random.default_rng(3).uniform(0, 255, (7, SIZE, SIZE, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    expected = network.predict(images, verbose=0)
    assert np.ptp(expected["malignancy"]) > 1e-3
    for name in ("malignancy", "mask"):
        np.testing.assert_allclose(session.run([name], {"image": images})[0], expected[name], atol=1e-4)


@pytest.fixture(scope="module")
def alike(tmp_path_factory) -> list[Path]:
    """Two networks as two processes save them: of other weights, and with the same names of layers."""
    import keras

    paths = [tmp_path_factory.mktemp("alike") / f"{seed}.keras" for seed in (1, 2)]
    for seed, path in enumerate(paths, 1):
        keras.utils.clear_session()
        tiny_network(seed).save(path)
    return paths


def test_what_is_built_alike_is_traced_once_and_each_has_its_own_weights(alike, tmp_path, monkeypatch):
    import onnxruntime

    from bus_mlops.packaging import onnx_export

    monkeypatch.setattr(onnx_export, "_LATEST", [])
    images = np.random.default_rng(3).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    answers = []
    known = []
    for number, member in enumerate((alike[0], alike[1], alike[0])):
        assert export_onnx(member, tmp_path / f"{number}.onnx") <= 1e-4  # from what this member answers
        session = onnxruntime.InferenceSession(str(tmp_path / f"{number}.onnx"))
        answers.append(session.run(["malignancy"], {"image": images})[0])
        known += onnx_export._LATEST
    traced, *others = known
    assert len(others) == 2
    assert all(other is traced for other in others)
    assert traced.function.experimental_get_tracing_count() == 1
    assert not np.allclose(answers[0], answers[1], atol=1e-4)
    np.testing.assert_array_equal(answers[0], answers[2])


def test_what_is_built_alike_is_built_once_and_read_as_it_is(alike, tmp_path):
    import keras

    read, images = NetworkReader(), np.random.default_rng(3).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    other = tmp_path / "other.keras"
    tiny_network(3, mask=False).save(other)
    networks = []
    for member in (alike[0], alike[1], other, alike[0]):
        networks.append(read(member))
        expected = keras.saving.load_model(member, compile=False)(images, training=False)
        for name, values in networks[-1](images, training=False).items():
            np.testing.assert_array_equal(np.asarray(values), np.asarray(expected[name]))
    assert networks[0] is networks[1]
    assert len({id(network) for network in networks}) == 3
    damaged = tmp_path / "damaged.keras"
    content = bytearray(alike[0].read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    for reader in (read, NetworkReader()):
        with pytest.raises(RegistryError, match=r"damaged.keras cannot be loaded"):
            reader(damaged)


def test_the_difference_is_that_of_the_image_and_the_batch_that_differ_most(alike, tmp_path):
    import onnxruntime

    from bus_mlops.packaging.onnx_export import _difference, _probes

    first, second = (load_network(path) for path in alike)
    export_onnx(alike[0], tmp_path / "m.onnx", first)
    session, images = onnxruntime.InferenceSession(str(tmp_path / "m.onnx")), _probes(SIZE)
    apart = []
    for batch in (images, images[:1]):
        for name, values in second(batch, training=False).items():
            apart.append(np.abs(session.run([name], {"image": batch})[0] - np.asarray(values)).max())
    assert _difference(second, tmp_path / "m.onnx") == pytest.approx(max(apart), abs=1e-5)
    assert max(apart) > 1e-3
    assert len(images) > 1


def test_export_refuses_weights_that_are_not_finite(tmp_path):
    network = tiny_network(1)
    kernel = network.get_layer("malignancy_logit").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    network.save(tmp_path / "nan.keras")
    with pytest.raises(RegistryError, match="differs from"):
        export_onnx(tmp_path / "nan.keras", tmp_path / "nan.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": 64}, "the package says 64 px"),
        ({"threshold": 1.5}, "threshold = 1.5"),
        ({"metadata": {"name": "x", "trained_on": "busi"}}, "phantom"),
        ({"metadata": {**METADATA, "misspelt": 1}}, "misspelt"),
        ({"example_image": b"not an image"}, "example"),
    ],
)
def test_bad_package_is_refused_and_leaves_nothing(members, tmp_path, change, message):
    values = {**OPTIONS, "example_image": speckle(40, 50), **change}
    with pytest.raises(RegistryError, match=message):
        write_package(tmp_path / "p", members[:1], **values)
    assert list(tmp_path.iterdir()) == []


def test_members_with_different_outputs_are_refused(members, tmp_path):
    tiny_network(3, mask=False).save(tmp_path / "single.keras")
    with pytest.raises(RegistryError, match="different outputs"):
        write_package(tmp_path / "p", [members[0], tmp_path / "single.keras"], **OPTIONS, example_image=speckle(40, 50))


def test_one_file_for_two_members_is_refused(members, tmp_path):
    with pytest.raises(RegistryError, match="more than one member"):
        write_package(tmp_path / "p", [members[0], members[0]], **OPTIONS, example_image=speckle(40, 50))


def test_not_a_keras_file_is_refused(tmp_path):
    (tmp_path / "m.keras").write_bytes(pickle.dumps({}))
    with pytest.raises(RegistryError, match=r"m\.keras cannot be loaded"):
        write_package(tmp_path / "p", [tmp_path / "m.keras"], **OPTIONS, example_image=speckle(40, 50))


def test_foreign_folder_is_not_replaced(members, tmp_path):
    precious = tmp_path / "p" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("keep")
    with pytest.raises(RegistryError, match="not a package"):
        write_package(tmp_path / "p", members, **OPTIONS, example_image=speckle(40, 50))
    assert precious.read_text() == "keep"


def test_phantom_model_needs_a_name_that_says_so(package_folder, tiny_registry):
    with pytest.raises(RegistryError, match="synthetic"):
        log_package(
            package_folder,
            registered_name="tiny",
            run_id=tiny_registry.run_id,
            tracking_uri=tiny_registry.uri,
        )


def test_changed_package_is_not_logged(package_folder, tiny_registry, tmp_path):
    copy = Path(shutil.copytree(package_folder, tmp_path / "copy"))
    (copy / "example.png").write_bytes(b"changed")
    with pytest.raises(RegistryError, match=r"example\.png was changed"):
        log_package(copy, registered_name="t-phantom", run_id=tiny_registry.run_id, tracking_uri=tiny_registry.uri)


def test_mlflow_model_answers_as_the_client_does(tiny_registry, scans, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tiny_registry.uri)
    model = mlflow.pyfunc.load_model("models:/tiny-phantom/1")
    assert [c.name for c in model.metadata.get_input_schema().inputs] == ["image"]
    images = [path.read_bytes() for path in scans]
    expected = load_model("models:/tiny-phantom/1", tiny_registry.uri).predict(images, masks=True, explanations=True)
    frame = model.predict(pd.DataFrame({"image": images}), params={"masks": True, "explanations": True})
    assert list(frame.columns) == model.metadata.get_output_schema().input_names()
    for name in ("probability", "label", "threshold", "spread", "model", "version", "error"):
        assert list(frame[name]) == [getattr(row, name) for row in expected], name
    assert frame["probability"].dtype == float
    assert [list(row) for row in frame["members"]] == [list(row.members or ()) for row in expected]
    for column, mode in (("mask", "L"), ("explanation", "RGBA")):
        for data, path in zip(frame[column], scans, strict=True):
            with PIL.Image.open(io.BytesIO(data)) as picture, PIL.Image.open(path) as scan:
                assert (picture.size, picture.mode) == (scan.size, mode)


def test_mlflow_says_what_is_refused_and_what_is_uncertain(package_folder, tmp_path):
    import mlflow

    package = write_refusing_package(tmp_path / "package", package_folder)
    options = pyfunc_options(package, read_package(package))
    mlflow.pyfunc.save_model(tmp_path / "model", artifacts={ARTIFACT: str(package)}, **options)
    picture = speckle(60, 80)
    white = picture.copy()
    white[20:] = 255
    frame = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(pd.DataFrame({"image": [picture, white]}))
    expected = load_model(package).predict([picture, white])
    assert list(frame["status"]) == ["uncertain", "refused"]
    assert [tuple(each) for each in frame["reasons"]] == [row.reasons for row in expected]
    for name in ("oddness", "triage", "probability"):
        assert [None if pd.isna(each) else each for each in frame[name]] == [getattr(row, name) for row in expected]


def test_a_version_registered_under_former_names_of_modules_is_still_loaded(package_folder, tmp_path):
    import mlflow

    code = PYFUNC_FILE.read_text()
    former = {
        "consumer.client": "registry.client",
        "consumer.explanation": "registry.occlusion",
        "consumer.package_format": "registry.contents",
        "images.model_input": "registry.images",
    }
    for present, name in former.items():
        assert f"from bus_mlops.{present} import" in code
        code = code.replace(f"from bus_mlops.{present} import", f"from bus_mlops.{name} import")
    (tmp_path / "pyfunc_model.py").write_text(code)
    options = pyfunc_options(package_folder, read_package(package_folder))
    options["python_model"] = str(tmp_path / "pyfunc_model.py")
    mlflow.pyfunc.save_model(tmp_path / "model", artifacts={ARTIFACT: str(package_folder)}, **options)
    image = (package_folder / EXAMPLE_IMAGE).read_bytes()
    answer = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(pd.DataFrame({"image": [image]}))
    assert answer["probability"][0] == load_model(package_folder).predict([image])[0].probability


def test_mlflow_model_takes_every_form_of_an_image(tiny_registry, scans, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tiny_registry.uri)
    model = mlflow.pyfunc.load_model("models:/tiny-phantom@champion")
    data = scans[0].read_bytes()
    array = np.asarray(PIL.Image.open(scans[0]))
    frame = model.predict(pd.DataFrame({"image": [data, base64.b64encode(data).decode(), scans[0], array]}))
    assert frame["probability"].nunique() == 1
    # A plain string is base64, never a path: a server would open its own files for whoever asks.
    hostile = [str(scans[0]), b"broken", png_of_header(30_000, 30_000), np.zeros((1, 1), np.uint8), None, 7.0, data]
    frame = model.predict(pd.DataFrame({"image": hostile}))
    kinds = ["ImageError", "ImageError", "ImageSizeError", "ImageSizeError", "ImageError", "ImageError", None]
    assert list(frame["error_type"]) == kinds
    assert list(frame["probability"].isna()) == [True] * 6 + [False]
    assert "base64" in frame["error"][0]
    assert "NaN" not in json.dumps(frame.to_dict(orient="records"))


def test_example_of_the_logged_model_is_reproduced(tiny_registry, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tiny_registry.uri)
    model = mlflow.pyfunc.load_model("models:/tiny-phantom/2")
    folder = Path(mlflow.artifacts.download_artifacts("models:/tiny-phantom/2"))
    example = model.metadata.load_input_example(str(folder))
    stored = json.loads(next(folder.rglob("example_prediction.json")).read_text())
    assert abs(model.predict(example)["probability"][0] - stored["probability"]) < 1e-6


def test_requirements_are_exact_and_the_consumers(tiny_registry):
    logged = next(tiny_registry.artifacts.rglob("requirements.txt")).read_text().split()
    assert all("==" in line for line in logged)
    names = {line.split("==")[0] for line in logged}
    assert {"bus-mlops", "onnxruntime", "numpy", "pillow", "mlflow-skinny"} <= names
    assert not names & {"tensorflow", "tensorflow-cpu", "keras", "onnx", "mlflow"}


def test_model_card_says_what_a_reader_must_know(package_folder):
    card = (package_folder / "MODEL_CARD.md").read_text()
    for text in ("Research use only", "synthetic", "0.4000", "busi", "passed", "0" * 40, "members/fold_2.onnx"):
        assert text in card
    assert "MODEL_CARD.md" in (package_folder / "SHA256SUMS").read_text()


def test_calibrations_are_the_members_own(members, tmp_path):
    scaled = [Calibration(slope=2.0, intercept=-1.0), Calibration(slope=0.5)]
    options = {**OPTIONS, "example_image": speckle(40, 50)}
    raw = load_model(write_package(tmp_path / "raw", members, **options)).predict([speckle(60, 50)])[0]
    folder = write_package(tmp_path / "calibrated", members, calibrations=scaled, **options)
    row = load_model(folder).predict([speckle(60, 50)])[0]
    assert raw.members is not None
    assert row.members is not None
    # Reference: scipy's logit and expit.
    expected = [expit(c.slope * logit(p) + c.intercept) for c, p in zip(scaled, raw.members, strict=True)]
    np.testing.assert_allclose(row.members, expected, atol=1e-9)
    assert row.probability == pytest.approx(np.mean(expected))
    assert load_model(folder).check_example() < 1e-6
    with pytest.raises(RegistryError, match="2 members but 1 calibrations"):
        write_package(tmp_path / "p", members, calibrations=scaled[:1], **options)


@given(p=st.floats(0, 1), slope=st.floats(1e-3, 1e3), intercept=st.floats(-1e3, 1e3))
def test_calibration_gives_a_probability_whatever_comes(p, slope, intercept):
    assert 0 <= Calibration(slope=slope, intercept=intercept)(p) <= 1


def test_logging_leaves_the_process_its_tracking_store(package_folder, tiny_registry, monkeypatch):
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    with pytest.raises(RegistryError, match="no run to log"):
        log_package(package_folder, registered_name="t-phantom", tracking_uri=tiny_registry.uri)
    assert mlflow.get_tracking_uri() == before
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_variable_sends_no_version_to_another_registry(package_folder, tiny_registry, monkeypatch, tmp_path):
    import mlflow

    other = f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", other)
    log_package(
        package_folder, registered_name="u-phantom", run_id=tiny_registry.run_id, tracking_uri=tiny_registry.uri
    )
    client = mlflow.MlflowClient(tiny_registry.uri, registry_uri=tiny_registry.uri)
    assert [str(each.version) for each in client.search_model_versions("name = 'u-phantom'")] == ["1"]
    assert not (tmp_path / "other.db").exists()
    assert (os.environ["MLFLOW_REGISTRY_URI"], mlflow.get_registry_uri()) == (other, other)
    client.delete_registered_model("u-phantom")
