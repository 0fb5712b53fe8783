"""The consumer: equal to Keras without TensorFlow, strict about checksums, clear about what is missing."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from altered import png_of_header
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_package import SIZE, speckle

from bus_mlops.consumer.client import BATCH, Prediction, load_model
from bus_mlops.errors import RegistryError
from bus_mlops.images.decode import decode_image
from bus_mlops.images.geometry import prepare, prepare_mask
from bus_mlops.images.model_input import Base64, restore_mask

ROOT = Path(__file__).parents[2]

# What a consumer's install lacks is hidden from the import system, as if it were not installed.
HIDDEN = "tensorflow keras pandas sklearn scipy cv2 matplotlib onnx tf2onnx pyarrow"
HIDE = """
import sys
class Hiding:
    def __init__(self, finder, names):
        self.finder, self.names = finder, names
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in self.names else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Hiding(finder, set("{names}".split())) for finder in sys.meta_path]
"""


def clean_process(code: str, *arguments: str, cwd: Path, hidden: str = HIDDEN) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that cannot import TensorFlow."""
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(names=hidden) + textwrap.dedent(code), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def keras_members(members):
    import keras

    return [keras.saving.load_model(path, compile=False) for path in members]


def probabilities(rows: list[Prediction]) -> list[float]:
    """Of rows that all have one."""
    values = [row.probability for row in rows if row.probability is not None]
    assert len(values) == len(rows)
    return values


def keras_answers(networks, paths):
    """Probabilities (members, images) and mean masks (images, S, S) of the networks themselves."""
    squares = [prepare(decode_image(path, "gray"), SIZE) for path in paths]
    batch = np.repeat(np.stack(squares)[..., None], 3, axis=-1).astype(np.float32)
    answers = [network.predict(batch, verbose=0) for network in networks]
    return np.array([a["malignancy"][:, 0] for a in answers]), np.mean([a["mask"][..., 0] for a in answers], axis=0)


def test_clean_process_equals_keras(tiny_registry, keras_members, scans, tmp_path):
    done = clean_process(
        """
        import json
        from bus_mlops.consumer.client import load_model
        model = load_model("models:/tiny-phantom@champion", sys.argv[1])
        rows = model.predict(sys.argv[2:])
        print(json.dumps([[r.source, r.probability, r.spread, r.label, r.model, r.version] for r in rows]))
        """,
        tiny_registry.uri,
        *map(str, scans),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    expected, _ = keras_answers(keras_members, scans)
    assert np.ptp(expected) > 0.01
    assert [row[0] for row in rows] == [str(path) for path in scans]
    np.testing.assert_allclose([row[1] for row in rows], expected.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose([row[2] for row in rows], np.ptp(expected, axis=0), atol=2e-4)
    assert [row[3] for row in rows] == ["malignant" if p >= 0.4 else "benign" for p in expected.mean(axis=0)]
    assert {(row[4], row[5]) for row in rows} == {("tiny-phantom", "2")}


def test_paths_bytes_and_arrays_give_the_same(package_folder, scans):
    model = load_model(package_folder)
    path = scans[0]
    text = Base64(base64.encodebytes(path.read_bytes()).decode())
    rows = model.predict([path, str(path), path.read_bytes(), np.asarray(Image.open(path)), text])
    assert len({row.probability for row in rows}) == 1
    assert [row.source for row in rows] == [str(path), str(path), "image[2]", "image[3]", "image[4]"]


def test_batches_do_not_change_answers(package_folder):
    model = load_model(package_folder)
    images = [speckle(40 + i, 60, i) for i in range(BATCH + 3)]
    together = model.predict(images)
    assert len(together) == BATCH + 3
    alone = [model.predict([image])[0] for image in images]
    np.testing.assert_allclose(probabilities(together), probabilities(alone), atol=1e-6)


def test_masks_have_the_size_of_the_original(package_folder, keras_members, scans):
    rows = load_model(package_folder).predict(scans, masks=True)
    _, masks = keras_answers(keras_members, scans)
    values: set[int] = set()
    for row, path, square in zip(rows, scans, masks, strict=True):
        assert row.mask is not None
        with Image.open(path) as image:
            assert row.mask.shape == (image.height, image.width)
        assert row.mask.dtype == np.uint8
        values |= set(np.unique(row.mask).tolist())
        # Reference: enlarge the whole square first, then cut the padding off.
        height, width = row.mask.shape
        side = max(height, width)
        whole = np.asarray(Image.fromarray(square.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
        top, left = (side - height) // 2, (side - width) // 2
        reference = whole[top : top + height, left : left + width] >= 0.5
        assert np.mean(reference == row.mask) > 0.99
    assert values == {0, 1}


@settings(deadline=None, max_examples=60)
@given(height=st.integers(33, 301), width=st.integers(33, 301))
def test_mask_geometry_round_trip(height, width):
    rows, columns = np.mgrid[:height, :width]
    mask = ((rows / height - 0.45) / 0.35) ** 2 + ((columns / width - 0.55) / 0.3) ** 2 < 1
    restored = restore_mask(prepare_mask(mask, 128).astype(np.float32), (height, width))
    assert restored.shape == mask.shape
    assert 2 * np.sum(restored * mask) / (restored.sum() + mask.sum()) > 0.93
    for axis in (0, 1):  # no shift: the centres agree to half a pixel of the square
        centre = [np.average(np.arange(m.shape[axis]), weights=m.sum(axis=1 - axis)) for m in (mask, restored)]
        assert abs(centre[0] - centre[1]) <= 0.5 * max(1.0, max(height, width) / 128)


def test_mask_of_the_networks_own_size_is_exact():
    mask = np.random.default_rng(0).random((SIZE, SIZE)) > 0.5
    np.testing.assert_array_equal(restore_mask(mask.astype(np.float32), (SIZE, SIZE)), mask)


def test_hostile_images_get_errors_and_the_others_answers(package_folder, scans, tmp_path):
    pixel = tmp_path / "pixel.png"
    Image.new("L", (1, 1)).save(pixel)
    strip = tmp_path / "strip.png"
    Image.new("L", (60_000, 20)).save(strip)
    hostile = [
        pixel,
        strip,
        tmp_path / "missing.png",
        tmp_path,
        b"",
        b"no image at all",
        scans[0].read_bytes()[:-200],
        png_of_header(60_000, 60_000),
        png_of_header(30_000, 1),
        Base64("no base64"),
        np.zeros((50, 50), np.float32),
        np.zeros((0, 5), np.uint8),
        42,
    ]
    rows = load_model(package_folder).predict([scans[0], *hostile, scans[1]], masks=True)
    assert len(rows) == len(hostile) + 2
    for row in (rows[0], rows[-1]):
        assert row.error is None
        assert row.probability is not None
    for row in rows[1:-1]:
        assert row.error
        assert (row.probability, row.label, row.spread, row.members, row.mask) == (None,) * 5
    kinds = {i: row.error_type for i, row in enumerate(rows) if row.error}
    assert kinds == {i: "ImageSizeError" if i in (1, 2, 8, 9) else "ImageError" for i in range(1, len(hostile) + 1)}
    assert "1 x 1" in str(rows[1].error)
    assert "pixels" in str(rows[8].error)


def test_one_path_instead_of_a_list_is_an_error(package_folder, scans):
    with pytest.raises(TypeError, match="list"):
        load_model(package_folder).predict(str(scans[0]))


@pytest.mark.parametrize("name", ["members/fold_2.onnx", "members/fold_1.keras", "package.json", "example.png"])
def test_changed_file_is_refused_by_name(package_folder, tmp_path, name):
    copy = Path(shutil.copytree(package_folder, tmp_path / "copy"))
    data = bytearray((copy / name).read_bytes())
    if name == "package.json":
        data = data.replace(b'"threshold": 0.4', b'"threshold": 0.9')
    else:
        data[len(data) // 2] ^= 1
    (copy / name).write_bytes(bytes(data))
    with pytest.raises(RegistryError, match=f"{name} was changed"):
        load_model(copy)


def test_missing_or_unlisted_file_is_refused(package_folder, tmp_path):
    copy = Path(shutil.copytree(package_folder, tmp_path / "copy"))
    sums = (copy / "SHA256SUMS").read_text().splitlines(keepends=True)
    (copy / "SHA256SUMS").write_text("".join(line for line in sums if "fold_1.onnx" not in line))
    with pytest.raises(RegistryError, match=r"fold_1\.onnx is not listed"):
        load_model(copy)
    (copy / "SHA256SUMS").write_text("".join(sums) + f"{'0' * 64}  ../../secret\n")
    with pytest.raises(RegistryError, match="not a checksum line"):
        load_model(copy)
    (copy / "SHA256SUMS").write_text("".join(sums))
    (copy / "members/fold_1.onnx").unlink()
    with pytest.raises(RegistryError, match=r"fold_1\.onnx is missing"):
        load_model(copy)


def test_package_changed_together_with_its_sums_is_refused(tiny_registry, package_folder, tmp_path):
    """The registry holds the digest of SHA256SUMS: rewriting both file and sums does not help."""
    import mlflow

    from bus_mlops.consumer.package_files import open_package, write_sums

    version = load_model("models:/tiny-phantom/1", tiny_registry.uri)
    tags = mlflow.MlflowClient(tiny_registry.uri).get_model_version("tiny-phantom", "1").tags
    copy = Path(shutil.copytree(version.folder, tmp_path / "copy"))
    (copy / "example.png").write_bytes(b"other")
    write_sums(copy)
    assert open_package(copy).digest != tags["package.sha256"]
    with pytest.raises(RegistryError, match="not the file that was registered"):
        open_package(copy, tags["package.sha256"])


def test_asking_a_missing_store_creates_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(RegistryError, match="make reproduce"):
        load_model("models:/bus-mt-estan@champion")
    assert list(tmp_path.iterdir()) == []


def test_store_that_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is text" * 100)
    with pytest.raises(RegistryError, match="it is not an SQLite database"):
        load_model("models:/x@champion", f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_no_champion_names_the_candidates(tiny_registry):
    with pytest.raises(RegistryError) as caught:
        load_model("models:/tiny-phantom@production", tiny_registry.uri)
    message = str(caught.value)
    assert "has no production" in message
    assert "version 1, gate: refused: G1" in message
    assert f"run {tiny_registry.run_id}" in message
    assert "--model models:/tiny-phantom/2" in message


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/tiny-phantom/9", "no version 9"),
        ("models:/unheard-of@champion", "Registered there: tiny-phantom"),
        ("models:/tiny-phantom", "not understood"),
        ("runs:/abc/model", "no such package folder"),
        (".", "is not a model package"),
    ],
)
def test_what_cannot_be_found_is_explained(tiny_registry, uri, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError, match=message):
        load_model(uri, tiny_registry.uri)


def test_lost_artifacts_are_named(tiny_registry, package_folder, tmp_path):
    import mlflow

    client = mlflow.MlflowClient(tiny_registry.uri)
    gone = (tmp_path / "gone").as_uri()
    client.create_registered_model("lost-phantom")
    try:
        client.create_model_version("lost-phantom", gone)
        with pytest.raises(RegistryError, match="gone"):
            load_model("models:/lost-phantom/1", tiny_registry.uri)
    finally:  # the store is everybody's
        client.delete_registered_model("lost-phantom")


def test_store_from_the_environment(tiny_registry, scans, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tiny_registry.uri)
    model = load_model("models:/tiny-phantom@champion")
    assert (model.name, model.version) == ("tiny-phantom", "2")
    assert model.predict(scans[:1])[0].error is None


def test_a_store_that_is_none_and_a_password_are_told_apart_in_a_consumers_install(tmp_path):
    done = clean_process(
        """
        import sys
        from bus_mlops.consumer.client import load_model
        for store in sys.argv[1:]:
            try:
                load_model("models:/a@champion", store)
            except Exception as error:
                print(type(error).__name__, error)
        """,
        "htp://me:secret@host",
        "mysql://me:secret@host/runs",
        cwd=tmp_path,
        hidden=f"{HIDDEN} sqlalchemy",
    )
    none, lacking = done.stdout.splitlines()
    assert none.startswith("RegistryError htp://me:***@host is not the address of an MLflow store")
    assert lacking.startswith("RegistryError the store mysql://me:***@host/runs needs the Python package")


def test_without_sqlalchemy_an_sqlite_store_says_what_to_do(tiny_registry, tmp_path):
    done = clean_process(
        """
        from bus_mlops.errors import RegistryError
        from bus_mlops.consumer.client import load_model
        try:
            load_model("models:/tiny-phantom@champion", sys.argv[1])
        except RegistryError as error:
            print(error)
        """,
        tiny_registry.uri,
        cwd=tmp_path,
        hidden=f"{HIDDEN} sqlalchemy",
    )
    assert "'sqlalchemy'" in done.stdout, done.stdout + done.stderr
    assert "bus-mlops[pipeline]" in done.stdout
