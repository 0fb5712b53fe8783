"""Assembly: bytes independent of workers, all broken images named, nothing half-written, digests that hold."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from altered import png_of_header
from PIL import Image

from bus_mlops.config import Config
from bus_mlops.dataset.assemble import assemble, describe
from bus_mlops.dataset.benchmark import COLUMNS, INFO_FILE, Benchmark, validate_manifest
from bus_mlops.dataset.convert import load
from bus_mlops.dataset.flow import incomplete_sources
from bus_mlops.errors import DatasetError, ImageError, SourceError
from bus_mlops.images.geometry import prepare, prepare_mask
from bus_mlops.project import parse_config
from bus_mlops.sources.phantoms.write import write_phantoms
from bus_mlops.sources.record import Crop, Record
from bus_mlops.sources.registry import read_sources

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"


def config_for(root: Path, sources: object = "all", color: str = "gray", kind: str = "phantom") -> Config:
    values = {
        "profile": "test",
        "seed": 5,
        "data": {"kind": kind, "root": str(root), "sources": sources, "color": color},
        "phantom": {
            "images": {"hmss": 24, "busi": 24, "busis": 10, "thammasat": 6, "dataset_b": 6},
            "near_duplicates": 4,
            "size": 72,
        },
        "cohorts": {"all": ["busi"], "multitask": ["busi"]},
        "networks": {},
        "strategies": ["approaches"],
        "searches": {},
    }
    return parse_config(values)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "data"
    write_phantoms(config_for(root), root)
    return root


@pytest.fixture(scope="module")
def benchmark(phantoms, tmp_path_factory):
    return assemble(config_for(phantoms), [48, 32, 48], tmp_path_factory.mktemp("benchmark") / "b", workers=1)


def bytes_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_half_a_source_is_assembled_and_counted_on_request(phantoms, tmp_path):
    """Every other image of BUSIS is not there: the flow says so, and so does every table."""
    root = tmp_path / "data"
    shutil.copytree(phantoms, root, ignore=lambda _, names: {"hmss", "thammasat", "dataset_b"} & set(names))
    for path in sorted((root / "busis" / "imgs").iterdir())[::2]:
        path.unlink()
    config = config_for(root, ["busi", "busis"])
    with pytest.raises(SourceError, match=r"lists 5 image\(s\) that are not in .*\n.*data\.sources_incomplete"):
        assemble(config, [32], tmp_path / "b", workers=1)
    data = config.data.model_copy(update={"sources_incomplete": "report"})
    half = assemble(config.model_copy(update={"data": data}), [32], tmp_path / "b", workers=1)
    flow = half.info["flow"]["busis"]
    assert (flow["listed"], flow["read"], flow["kept"]) == (10, 5, 5)
    assert flow["excluded"] == {"image not there": 5}
    assert half.info["flow"]["busi"]["excluded"] == {}
    assert "busis: 5 left out: image not there" in describe(half)
    assert incomplete_sources(tmp_path / "b" / INFO_FILE) == {"busis": "5 of 10 images"}
    with pytest.raises(DatasetError, match="dvc repro assemble"):
        incomplete_sources(tmp_path / "nothing.json")


def test_two_workers_write_the_same_bytes_as_one(phantoms, benchmark, tmp_path):
    assemble(config_for(phantoms), [32, 48], tmp_path / "two", workers=2)
    assert bytes_of(tmp_path / "two") == bytes_of(benchmark.folder)


def test_arrays_hold_what_the_geometry_gives_in_the_manifests_order(phantoms, benchmark):
    records = {record.image_id: record for record in read_sources(config_for(phantoms).data)}
    assert benchmark.sizes == (32, 48)
    assert benchmark.is_phantom
    assert tuple(benchmark.frame.columns) == COLUMNS
    assert sorted(records) == sorted(benchmark.frame["image_id"])
    for row in benchmark.frame.itertuples():
        image, mask = load(records[row.image_id], "gray")
        assert (row.height, row.width) == image.shape
        assert np.array_equal(benchmark.images(48)[row.index], prepare(image, 48))
        assert row.has_mask == (mask is not None) == benchmark.masks(32)[row.index].any()
        if mask is not None:
            assert np.array_equal(benchmark.masks(32)[row.index], prepare_mask(mask, 32))
        assert (phantoms / row.path).is_file()


def test_crops_take_away_the_borders_of_the_screen(phantoms, benchmark):
    rows = benchmark.frame[benchmark.frame["source"].isin(["hmss", "thammasat"])]
    for row in rows.itertuples():
        screen = np.asarray(Image.open(phantoms / row.path))
        assert row.height <= screen.shape[0] - 12
        assert row.width <= screen.shape[1] - 12
        skin = benchmark.images(48)[row.index].max(axis=1)
        assert skin[skin > 0][:4].mean() > 90  # the first rows are skin, which is bright, and not the border


def test_arrays_are_read_only_memory_maps(benchmark):
    images = benchmark.images(32)
    assert isinstance(images, np.memmap)
    assert images.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_names_stay_text_and_flow_counts_add_up(benchmark):
    names = benchmark.frame.loc[benchmark.frame["source"] == "dataset_b", "name"]
    assert all(isinstance(name, str) and len(name) == 6 for name in names)
    flow = benchmark.info["flow"]
    assert {source: counts["kept"] for source, counts in flow.items()} == {
        "busi": 24, "busis": 10, "dataset_b": 6, "hmss": 24, "thammasat": 6,
    }  # fmt: skip
    assert all(c["listed"] == c["read"] == c["kept"] == c["benign"] + c["malignant"] for c in flow.values())
    assert "SYNTHETIC" in describe(benchmark)


def test_colour_benchmark_has_three_channels(phantoms, tmp_path):
    config = config_for(phantoms, ["busi"], "rgb")
    colour = assemble(config, [32], tmp_path / "c", workers=1)
    gray = assemble(config_for(phantoms, ["busi"]), [32], tmp_path / "g", workers=1)
    assert colour.images(32).shape == (24, 32, 32, 3)
    assert np.array_equal(colour.thumbnails(), gray.thumbnails())
    assert colour.data_digest(["busi"]) != gray.data_digest(["busi"])


def test_data_digest_ignores_other_sources_and_sees_every_label_and_pixel(phantoms, benchmark, tmp_path):
    alone = assemble(config_for(phantoms, ["busis"]), [32], tmp_path / "a", workers=1)
    assert alone.data_digest(["busis"]) == benchmark.data_digest(["busis", "not_there"])
    assert benchmark.data_digest(["busis"]) != benchmark.data_digest(["busis", "busi"])
    for column, value in (("label", 1 - alone.frame["label"].iloc[0]), ("digest", "0" * 64)):
        frame = alone.frame.copy()
        frame.loc[0, column] = value
        assert Benchmark(alone.folder, frame, alone.info).data_digest(["busis"]) != alone.data_digest(["busis"])
    with pytest.raises(DatasetError, match="none of the sources"):
        alone.data_digest(["busi"])


def test_every_broken_image_is_named_and_nothing_is_left_behind(phantoms, tmp_path):
    config = config_for(tmp_path / "data", ["busis"])
    write_phantoms(config, tmp_path / "data")
    images = tmp_path / "data" / "busis" / "imgs"
    (images / "case0002.png").write_bytes(b"")
    (images / "case0005.png").write_bytes((images / "case0005.png").read_bytes()[:200])
    Image.new("L", (5, 5)).save(tmp_path / "data" / "busis" / "GT" / "case0007_GT.png")
    Image.new("L", (20_000, 5)).save(images / "case0008.png")
    assembled = tmp_path / "out" / "benchmark"
    with pytest.raises(ImageError) as raised:
        assemble(config, [32], assembled, workers=1)
    for words in (
        "4 images",
        "case0002.png is empty",
        "case0005.png is damaged",
        "case0007_GT.png has 5 x 5 pixels",
        "case0008.png has 20000 x 5 pixels: its longer side",
    ):
        assert words in str(raised.value)
    assert list(assembled.parent.iterdir()) == []


def hostile(folder: Path) -> dict[str, str]:
    """One BUSIS image for each way an image can be hostile; name -> what the error must say, empty if it is read."""
    rng = np.random.default_rng(0)
    gray = Image.fromarray(rng.integers(0, 256, (40, 60), dtype=np.uint8))
    images = folder / "imgs"

    def png(name: str) -> Path:
        return images / f"{name}.png"

    gray.save(png("truncated"))
    png("truncated").write_bytes(png("truncated").read_bytes()[:900])
    png("no-bytes").write_bytes(b"")
    png("text").write_bytes(b"<html>Not Found</html>")
    png("huge-header").write_bytes(png_of_header(50_000, 50_000))
    gray.save(png("animated"), "GIF", save_all=True, append_images=[Image.new("L", (60, 40))])
    gray.save(png("wrong-suffix"), "BMP")
    gray.convert("CMYK").save(png("cmyk"), "JPEG", quality=95)
    Image.fromarray(np.asarray(gray).astype(np.uint16) * 257).save(png("sixteen-bit"))
    clear = gray.convert("RGBA")
    clear.putalpha(255)
    clear.save(png("alpha"))
    exif = Image.Exif()
    exif[0x0112] = 6
    gray.transpose(Image.Transpose.ROTATE_90).save(png("rotated"), exif=exif)
    return {
        "truncated": "truncated.png is damaged",
        "no-bytes": "no-bytes.png is empty (0 bytes)",
        "text": "text.png is not an image",
        "huge-header": "huge-header.png claims more than 100,000,000 pixels",
        "animated": "animated.png holds 2 frames",
        **dict.fromkeys(("wrong-suffix", "cmyk", "sixteen-bit", "alpha", "rotated"), ""),
    }


def write_busis(root: Path, names: Sequence[str]) -> None:
    for name in names:
        Image.new("1", (60, 40), 1).save(root / "GT" / f"{name}_GT.png")
    rows = [f"{name}.png,{name}_GT.png,{'BM'[i % 2]}" for i, name in enumerate(names)]
    (root / "BUSIS562.csv").write_text("img name,Ground Truth Name,tumor type\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_kind_of_hostile_image_is_read_correctly_or_rejected_by_name(tmp_path, workers):
    root = tmp_path / "data" / "busis"
    (root / "imgs").mkdir(parents=True)
    (root / "GT").mkdir()
    kinds = hostile(root)
    config = config_for(tmp_path / "data", ["busis"], kind="real")
    write_busis(root, list(kinds))
    with pytest.raises(ImageError) as raised:
        assemble(config, [32], tmp_path / "b", workers=workers)
    for name, words in kinds.items():
        assert (words in str(raised.value)) if words else (name not in str(raised.value)), name
    assert not (tmp_path / "b").exists()

    good = [name for name, words in kinds.items() if not words]
    write_busis(root, good)
    for name, words in kinds.items():
        if words:
            (root / "imgs" / f"{name}.png").unlink()
            (root / "GT" / f"{name}_GT.png").unlink()
    benchmark = assemble(config, [60], tmp_path / "b", workers=workers)
    frame = benchmark.frame.set_index("name")
    assert (frame[["width", "height"]] == (60, 40)).all(axis=None)
    truth = prepare(np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8), 60).astype(int)
    place = dict(zip(benchmark.frame["name"], benchmark.frame["index"], strict=True))
    for name in good:
        # JPEG loses a little, all other ways of storing the picture nothing
        lost = np.abs(benchmark.images(60)[place[name]].astype(int) - truth).mean()
        assert lost < 6 if name == "cmyk" else lost == 0, name


MEASURED = """
import sys, threading, psutil
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_assemble import config_for
from bus_mlops.dataset.assemble import assemble
peak, done = [0], threading.Event()
def watch():
    me = psutil.Process()
    while not done.is_set():
        total = 0
        for process in (me, *me.children(recursive=True)):
            try: total += process.memory_info().rss
            except psutil.NoSuchProcess: pass
        peak[0] = max(peak[0], total)
        done.wait(0.01)
if __name__ == "__main__":
    thread = threading.Thread(target=watch)
    thread.start()
    assemble(config_for(Path(sys.argv[2]), ["busis"], kind="real"), [224], Path(sys.argv[3]), workers=int(sys.argv[4]))
    done.set()
    thread.join()
    print(peak[0] / 2**20)
"""


def test_memory_stays_under_500_mib_and_does_not_grow_with_the_images(tmp_path):
    """Resident memory of all processes, which counts libraries and mapped files more than once."""
    rng = np.random.default_rng(0)
    script = tmp_path / "measure.py"
    script.write_text(MEASURED)
    peaks = {}
    for count in (100, 1200):
        root = tmp_path / str(count) / "busis"
        (root / "imgs").mkdir(parents=True)
        (root / "GT").mkdir()
        picture = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 60), dtype=np.uint8)).save(picture, "PNG")
        names = [f"case{i:04d}" for i in range(count)]
        for name in names:
            (root / "imgs" / f"{name}.png").write_bytes(picture.getvalue())
        write_busis(root, names)
        command = [sys.executable, script, Path(__file__).parent, root.parent, tmp_path / f"b{count}", "2"]
        tests = Path(__file__).parents[1]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests / "helpers")))}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
        peaks[count] = float(done.stdout)
    assert max(peaks.values()) < 500, peaks
    # the arrays of 1,200 images take 120 MB, of 100 images 10 MB
    assert peaks[1200] - peaks[100] < 60, peaks


def test_a_failed_run_keeps_the_former_benchmark(phantoms, tmp_path):
    folder = tmp_path / "benchmark"
    assemble(config_for(phantoms, ["busis"]), [32], folder, workers=1)
    before = bytes_of(folder)
    with pytest.raises(DatasetError, match="no input size"):
        assemble(config_for(phantoms), [], folder)
    (tmp_path / ".benchmark.partial-999999999-x").mkdir()  # what a killed run leaves
    assemble(config_for(phantoms, ["busis"]), [32], folder, workers=1)
    assert bytes_of(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["benchmark"]


def picture(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def test_masks_are_joined_by_logical_or_and_not_added(tmp_path):
    image = picture(tmp_path / "i.png", np.full((4, 4), 9))
    one, two = np.zeros((4, 4)), np.zeros((4, 4))
    one[:2], two[1:3] = 255, 255
    masks = (picture(tmp_path / "a.png", one), picture(tmp_path / "b.png", two))
    _, joined = load(Record("busi", "i", "i", 0, image, masks), "gray")
    assert joined is not None
    assert joined.tolist() == [[True] * 4] * 3 + [[False] * 4]


def test_a_crop_outside_the_image_names_the_row_and_a_mask_is_cropped_alike(tmp_path):
    image = picture(tmp_path / "i.png", np.arange(20).reshape(5, 4))
    record = Record("hmss", "i", "i", 0, image, (), Crop(2, 0, 4, 4), "HMSS.csv row 7")
    with pytest.raises(ImageError, match=r"HMSS.csv row 7: the crop .*leaves the image.*Correct the row"):
        load(record, "gray")
    mask = picture(tmp_path / "m.png", (np.arange(20).reshape(5, 4) == 9) * 255)
    pixels, joined = load(Record("hmss", "i", "i", 0, image, (mask,), Crop(1, 1, 3, 2)), "gray")
    assert joined is not None
    assert pixels.tolist() == [[5, 6], [9, 10], [13, 14]]
    assert joined.tolist() == (pixels == 9).tolist()


def test_open_says_what_is_missing(benchmark, tmp_path):
    with pytest.raises(DatasetError, match="dvc repro assemble"):
        Benchmark.open(tmp_path)
    with pytest.raises(DatasetError, match=r"has the sizes \[32, 48\] but not 64"):
        benchmark.images(64)


@pytest.mark.parametrize(
    ("column", "value"), [("label", 2), ("image_id", "elsewhere"), ("width", 0), ("digest", "x"), ("index", 5)]
)
def test_the_schema_names_column_and_value(benchmark, column, value):
    frame = benchmark.frame.copy()
    assert len(validate_manifest(frame)) == len(frame)
    frame.loc[3, column] = value
    with pytest.raises(DatasetError, match=rf"inconsistent: .*{column}|source/name"):
        validate_manifest(frame)


@pytest.mark.skipif(not (REAL / "busi").is_dir(), reason="the real BUSI images are not beside the project")
def test_real_busi_assembles_with_all_its_masks(tmp_path):
    real = assemble(config_for(REAL, ["busi"], kind="real"), [64], tmp_path / "busi")
    assert len(real.frame) == 647
    assert real.info["flow"]["busi"] == {
        "listed": 647, "read": 647, "excluded": {}, "kept": 647, "benign": 437, "malignant": 210,
        "cases": 647, "with_mask": 647, "empty_masks": 0,
    }  # fmt: skip
    assert (real.images(64).reshape(647, -1).max(axis=1) > 50).all()
