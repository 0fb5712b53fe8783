"""Finished cells between ledgers: as they were recorded, once, never over what is there; the rest is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.config import TrackingConfig
from bus_mlops.errors import DamagedRunError, LedgerError
from bus_mlops.experiments.cell_predictions import cell_metrics
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.promotion.repair import against_metrics
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.inspection import inspect
from bus_mlops.tracking.ledger import CURVES, MODEL, PREDICTIONS, Ledger
from bus_mlops.tracking.run_archive import HEADER
from bus_mlops.tracking.run_files import ELSEWHERE
from bus_mlops.tracking.run_transfer import IMPORTED_FROM, Imported, export_runs, import_runs

DATA, SPLIT = "d" * 64, "e" * 64
CELLS = (("fold", 1), ("fold", 2), ("tried", 3))


@dataclass
class Place:
    """A project's store."""

    tracking: TrackingConfig
    ledger: Ledger

    def artifacts(self, run_id: str) -> Path:
        return Path(self.tracking.artifacts) / run_id / "artifacts"


def record(ledger: Ledger, spec, folder: Path, kind: str, fold: int) -> str:
    """A finished run of a cell, as a worker leaves it; the network is some bytes."""
    prints = spec.fingerprint(DATA, SPLIT)
    tags = {"data_digest": DATA, "folds_digest": SPLIT, "git_commit": "c0ffee"}
    parent = ledger.parents.find_or_create(spec, prints, "MobileNet TL", {**tags, "strategy.losses": "MobileNet TL"})
    rng = np.random.default_rng(fold)
    rows = {"image_id": [f"i{i}" for i in range(40)], "group": range(40), "source": "busi", "fold": fold}
    frame = pd.DataFrame({**rows, "part": ["test"] * 20 + ["validation"] * 20, "label": np.arange(40) % 2})
    frame = frame.assign(probability=rng.random(40), dice=np.nan, iou=np.nan)
    frame = frame[(frame["part"] == "validation") | (kind == "fold")]
    folder.mkdir(parents=True)
    frame.to_csv(folder / PREDICTIONS, index=False)
    epochs = np.arange(1, spec.training.epochs + 1)
    pd.DataFrame({"epoch": epochs, "loss": 1 / epochs}).to_csv(folder / CURVES, index=False)
    (folder / MODEL).write_bytes(rng.bytes(1_500_000))
    own = {"kind": kind, "fingerprint": prints, "fold": str(fold), "protocol": "{}", "protocol.sha256": "f" * 64}
    run_id = ledger.start(parent, f"MobileNet TL / fold {fold}", spec, {**tags, **own})
    for epoch in epochs:
        ledger.writer.epoch(run_id, int(epoch), {"loss": 1 / epoch})
    ledger.finish(run_id, cell_metrics(frame), folder, {})
    return run_id


@pytest.fixture(scope="module")
def origin(tmp_path_factory, empty_store) -> Place:
    """A store with two tested cells of a spec and one that was only tried."""
    folder = tmp_path_factory.mktemp("origin")
    place = new_place(folder, empty_store)
    from projects import small_profile

    from bus_mlops.project import parse_config

    spec = make_spec(parse_config(small_profile()), "mobilenet", "all")
    for kind, fold in CELLS:
        record(place.ledger, spec, folder / "made" / str(fold), kind, fold)
    return place


@pytest.fixture(scope="module")
def export(origin, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "runs.zip"
    done = export_runs(origin.ledger, path, "origin")
    assert (done.runs, done.specs, done.files) == (3, 1, 9)
    return path


@pytest.fixture
def target(tmp_path, empty_store) -> Place:
    return new_place(tmp_path / "target", empty_store)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory, empty_store) -> Iterator[Place]:
    """A store into which nothing was written, whatever tests have tried."""
    place = new_place(tmp_path_factory.mktemp("untouched"), empty_store)
    yield place
    assert everything(place.ledger) == []
    assert not list(Path(place.tracking.artifacts).glob("*/artifacts"))


def new_place(folder: Path, empty_store: Path) -> Place:
    folder.mkdir(exist_ok=True)
    shutil.copy(empty_store, folder / "mlflow.db")
    tracking = TrackingConfig(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts=str(folder / "artifacts"))
    return Place(tracking, Ledger(tracking))


def rewritten(export: Path, to: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of an export whose entries somebody has changed."""
    with zipfile.ZipFile(export) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return to


def finished(ledger: Ledger, key: LedgerKey, kind: str) -> Any:
    run = ledger.finished_run(key, kind == "tried")
    assert run is not None
    return run


def everything(ledger: Ledger) -> list[Any]:
    """All that the store has on its runs."""
    runs = ledger.runs("")
    return sorted((run.info.run_id, run.info.status, sorted(run.data.tags), sorted(run.data.metrics)) for run in runs)


def test_cells_arrive_as_they_were_recorded_and_no_second_time(origin, export, target):
    assert import_runs(target.ledger, export, against_metrics) == Imported(3, 0)
    then, now = (Ledger(place.tracking) for place in (origin, target))
    prints = next(iter(then.finished())).fingerprint
    assert set(now.finished()) == set(then.finished()) == {LedgerKey(prints, 1), LedgerKey(prints, 2)}
    for kind, fold in CELLS:
        old, new = (finished(each, LedgerKey(prints, fold), kind) for each in (then, now))
        assert new.data.params == old.data.params
        assert new.data.metrics == old.data.metrics
        assert (new.info.start_time, new.info.end_time) == (old.info.start_time, old.info.end_time)
        assert new.info.run_name == old.info.run_name
        assert new.data.tags[IMPORTED_FROM] == old.info.run_id
        gone = set(old.data.tags) - set(new.data.tags)
        assert gone == set()
        assert {name: new.data.tags[name] for name in old.data.tags if not name.startswith("mlflow.")} == {
            name: value for name, value in old.data.tags.items() if not name.startswith("mlflow.")
        }
        history = [
            [(m.value, m.step, m.timestamp) for m in each.client.get_metric_history(run.info.run_id, "loss")]
            for each, run in ((then, old), (now, new))
        ]
        assert len(history[0]) > 1
        assert history[0] == history[1]
        assert now.artifact_digests(new.info.run_id) == then.artifact_digests(old.info.run_id)
        pd.testing.assert_frame_equal(now.predictions(new.info.run_id), then.predictions(old.info.run_id))
    parent = now.client.get_run(now.parents.find(prints) or "")
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "MobileNet TL")
    assert (parent.data.tags["folds_finished"], parent.data.tags["folds_tried"]) == ("1, 2", "3")

    before = everything(now)
    assert import_runs(Ledger(target.tracking), export, against_metrics) == Imported(0, 3)
    assert everything(Ledger(target.tracking)) == before


def test_what_is_there_stays_as_it_is_and_what_came_goes_on(origin, export, target, tmp_path):
    from projects import small_profile

    from bus_mlops.project import parse_config

    spec = make_spec(parse_config(small_profile()), "mobilenet", "all")
    own = record(target.ledger, spec, tmp_path / "own", "fold", 2)
    parent = target.ledger.parents.find(spec.fingerprint(DATA, SPLIT)) or ""
    target.ledger.writer.tag(parent, {"git_commit": "mine"})
    assert import_runs(Ledger(target.tracking), export, against_metrics) == Imported(2, 1, other_results=0)
    ledger = Ledger(target.tracking)
    assert ledger.finished()[LedgerKey(spec.fingerprint(DATA, SPLIT), 2)] == own
    assert ledger.client.get_run(parent).data.tags["git_commit"] == "mine"
    assert len(ledger.runs("tags.kind = 'spec'")) == 1
    # what was imported is exported in its turn, under its first name
    again = tmp_path / "again.zip"
    assert export_runs(ledger, again, "target").runs == 3
    with zipfile.ZipFile(again) as archive:
        packed = [json.loads(archive.read(n)) for n in archive.namelist() if n.endswith("run.json")]
    assert {each["tags"].get(IMPORTED_FROM, own) for each in packed} <= {own, *origin.ledger.files._known}


def test_without_networks_results_travel_and_networks_follow(origin, export, target, tmp_path):
    light = tmp_path / "light.zip"
    done = export_runs(origin.ledger, light, "origin", networks=False)
    assert (done.runs, done.files) == (2, 4)  # what was only tried stays: it could not be completed
    assert light.stat().st_size < export.stat().st_size / 50
    assert import_runs(target.ledger, light, against_metrics) == Imported(2, 0)
    ledger = Ledger(target.tracking)
    key, run_id = min(ledger.finished().items())
    then = origin.ledger.finished()[key]
    pd.testing.assert_frame_equal(ledger.predictions(run_id), origin.ledger.predictions(then))
    assert set(ledger.artifact_digests(run_id)) == {PREDICTIONS, CURVES}
    with pytest.raises(DamagedRunError, match=r"imported without its network.* repair --without-networks"):
        ledger.artifact(run_id, MODEL, tmp_path)
    # nothing is damaged, unless somebody wants them trained anew
    assert inspect(ledger).damages == []
    found = inspect(ledger, networks=True)
    assert [damage.kind for damage in found.damages] == [ELSEWHERE] * 2
    assert set(found.lost) == set(ledger.finished().values())
    # as they came they travel on
    again = export_runs(ledger, tmp_path / "again.zip", "target")
    assert (again.runs, again.files) == (2, 4)

    # the same runs with networks bring them in; a network of other bytes does not count as theirs
    def another(entries: dict[str, bytes]) -> None:
        kind = forged(entries, lambda run: run["params"].update({f"sha256.{MODEL}": digest}))["tags"]["kind"]
        name = f"runs/{min(n for n in entries if n.endswith('run.json')).split('/')[1]}/files/{MODEL}"
        entries[name] = b"another"
        kinds.append(kind)

    digest, kinds = hashlib.sha256(b"another").hexdigest(), list[str]()
    strange = rewritten(export, tmp_path / "strange.zip", another)
    first = import_runs(Ledger(target.tracking), strange, against_metrics)
    added_tried = kinds == ["tried"]  # which was not there yet, so that it comes with its other network
    assert first.completed == (2 if added_tried else 1)
    last = import_runs(Ledger(target.tracking), export, against_metrics)
    assert (last.added, last.other_results, first.completed + last.completed) == (0, int(added_tried), 2)
    ledger = Ledger(target.tracking)
    for run_id in ledger.finished().values():
        assert ledger.artifact(run_id, MODEL, tmp_path / "networks").stat().st_size == 1_500_000
    assert inspect(ledger, networks=True).damages == []


def test_runs_without_networks_are_forgotten_where_that_is_asked_for(
    origin, target, tmp_path, monkeypatch, demo_values
):
    export_runs(origin.ledger, tmp_path / "light.zip", "origin", networks=False)
    import_runs(target.ledger, tmp_path / "light.zip", against_metrics)
    project = tmp_path / "project"
    project.mkdir()
    values = {**demo_values, "tracking": target.tracking.model_dump(mode="json")}
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["repair", "--yes"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len(Ledger(target.tracking).finished()) == 2
    done = CliRunner().invoke(app, ["repair", "--yes", "--without-networks"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "2 runs forgotten" in done.output
    assert Ledger(target.tracking).finished() == {}


def test_an_import_that_is_cut_off_goes_on_where_it_was(export, target, monkeypatch):
    stored: list[str] = []

    def store(self, run_id, folder, prefix=""):
        if len(stored) == 1:
            raise KeyboardInterrupt
        stored.append(run_id)
        return whole(self, run_id, folder, prefix)

    whole = type(target.ledger.files).store
    with monkeypatch.context() as patch:
        patch.setattr(type(target.ledger.files), "store", store)
        with pytest.raises(KeyboardInterrupt):
            import_runs(target.ledger, export, against_metrics)
    ledger = Ledger(target.tracking)
    assert len(ledger.finished_cells({run.data.tags["fingerprint"] for run in ledger.runs("")})["tried"]) == 1
    assert ledger.finished() == {}
    assert import_runs(ledger, export, against_metrics) == Imported(2, 1)
    assert len(Ledger(target.tracking).finished()) == 2


def test_a_file_that_was_cut_short_is_refused_wherever_it_was_cut(export, untouched, tmp_path):
    content = export.read_bytes()
    cut = tmp_path / "cut.zip"
    for length in (0, 10, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        with pytest.raises(LedgerError, match=r"no zip, or was cut short .* Nothing was imported"):
            import_runs(untouched.ledger, cut, against_metrics)
    with pytest.raises(LedgerError, match="is not there"):
        import_runs(untouched.ledger, tmp_path / "none.zip", against_metrics)
    assert everything(untouched.ledger) == []


def test_a_changed_byte_is_refused_wherever_it_is(export, untouched, tmp_path):
    content = export.read_bytes()
    with zipfile.ZipFile(export) as archive:
        places = [info.header_offset + 200 for info in archive.infolist()]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 0x20
        (tmp_path / "changed.zip").write_bytes(changed)
        with pytest.raises(LedgerError, match=r"damaged|no zip"):
            import_runs(untouched.ledger, tmp_path / "changed.zip", against_metrics)
    assert everything(untouched.ledger) == []


def forged(entries: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Change what one run.json says, and its sha256 in the header with it; returns what it says now."""
    name = min(name for name in entries if name.endswith("run.json"))
    run = json.loads(entries[name])
    change(run)
    entries[name] = json.dumps(run).encode()
    header = json.loads(entries[HEADER])
    header["runs"][name.split("/")[1]] = hashlib.sha256(entries[name]).hexdigest()
    entries[HEADER] = json.dumps(header).encode()
    return run


def better(run: dict[str, Any]) -> None:
    names = ("roc_auc", "validation_best_roc_auc")
    run["metrics"] = [(n, "0.99" if n in names else value, *rest) for n, value, *rest in run["metrics"]]


def another_header(entries: dict[str, bytes], **values: Any) -> None:
    entries[HEADER] = json.dumps({**json.loads(entries[HEADER]), **values}).encode()


def moved(run: dict[str, Any], path: str) -> None:
    run["params"][f"sha256.{path}"] = run["params"].pop(f"sha256.{MODEL}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: forged(e, better), r"predictions.csv gives a (validation_best_)?roc_auc of 0\.\d+, and .* 0\.99"),
        (lambda e: forged(e, lambda r: r["params"].update({"training.dropout": "0.9"})), "fingerprint .* and it names"),
        (lambda e: forged(e, lambda r: r["tags"].update(data_digest="a" * 64)), "fingerprint .* and it names"),
        (lambda e: forged(e, lambda r: r["tags"].update(kind="search")), "of the kind 'search'"),
        (lambda e: forged(e, lambda r: r["tags"].pop("fold")), "not those of a cell of this version"),
        (lambda e: forged(e, lambda r: r.update(run_id="0" * 32)), "another run stands in its file"),
        (lambda e: forged(e, lambda r: r.update(extra=1)), "is not as this version writes it: extra"),
        (lambda e: forged(e, lambda r: moved(r, "../../evil")), "leaves its folder"),
        (lambda e: forged(e, lambda r: moved(r, "/tmp/evil")), "leaves its folder"),
        (lambda e: forged(e, lambda r: moved(r, "..\\evil")), "leaves its folder"),
        (lambda e: forged(e, lambda r: moved(r, "c:evil")), "leaves its folder"),
        (lambda e: e.update({"../evil": b"x"}), "leaves its folder"),
        (lambda e: e.update({"runs/more.txt": b"x"}), r"runs/more.txt is on record of no run"),
        (lambda e: e.pop(next(n for n in e if n.endswith(MODEL))), "model.keras is missing"),
        (lambda e: another_header(e, numerics=1), "version 1 of the numerics, .* Train them here"),
        (lambda e: another_header(e, version=9), "of version 9 of this kind of file"),
        (lambda e: another_header(e, format="something"), "holds no finished runs of bus-mlops"),
        (lambda e: e.pop(HEADER), "a zip without export.json"),
    ],
)
def test_what_was_forged_or_is_foreign_is_refused_and_nothing_is_written(export, untouched, tmp_path, change, message):
    path = rewritten(export, tmp_path / "forged.zip", change)
    with pytest.raises(LedgerError, match=message):
        import_runs(untouched.ledger, path, against_metrics)
    assert everything(untouched.ledger) == []
    assert not list(tmp_path.rglob("*evil*"))


def test_damaged_runs_and_runs_at_work_are_not_exported(origin, tmp_path, empty_store):
    copied = tmp_path / "copy"
    shutil.copytree(Path(origin.tracking.artifacts).parent, copied)
    tracking = TrackingConfig(uri=f"sqlite:///{copied / 'mlflow.db'}", artifacts=str(copied / "artifacts"))
    from bus_mlops.tracking.relocation import find_moves, relocate

    for move in find_moves(tracking):
        relocate(move)
    ledger, path = Ledger(tracking), tmp_path / "runs.zip"
    run = next(iter(ledger.finished().values()))
    model = copied / "artifacts" / run / "artifacts" / MODEL
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedRunError, match=f"run {run}.* model.keras is changed"):
        export_runs(ledger, path, "copy")
    spec = ledger.spec(run)
    begun = ledger.start("0" * 32, "at work", spec, {"fingerprint": "f" * 64, "fold": "1"})
    with pytest.raises(LedgerError, match=r"1 cells are being trained now.* --finished"):
        export_runs(ledger, path, "copy")
    ledger.writer.fail(begun, "KILLED", "")
    assert list(tmp_path.iterdir()) == [copied]
    with pytest.raises(LedgerError, match="no finished run yet"):
        export_runs(new_place(tmp_path / "empty", empty_store).ledger, path, "empty")


def test_the_commands_do_it_for_the_project_at_hand(origin, target, tmp_path, monkeypatch, demo_values):
    for name, place in (("from", origin), ("to", target)):
        (tmp_path / name).mkdir()
        values = {**demo_values, "tracking": place.tracking.model_dump(mode="json")}
        (tmp_path / name / "params.yaml").write_text(yaml.safe_dump(values))
    said = []
    for name, command in (("from", "export-runs"), ("to", "import-runs"), ("to", "import-runs")):
        monkeypatch.chdir(tmp_path / name)
        done = CliRunner().invoke(app, [command, "../runs.zip"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        said.append(done.output)
    assert "3 runs of 1 specs with 9 files" in said[0]
    assert "3 runs imported, 0 were there already" in said[1]
    assert "0 runs imported, 3 were there already" in said[2]
    assert "dvc repro" in said[1]
    assert "dvc repro" not in said[2]
