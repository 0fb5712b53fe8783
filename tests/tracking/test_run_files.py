"""Files of runs: recorded when the run ends, compared whenever they are read, and damage of any kind is named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import bus_mlops
from bus_mlops.config import TrackingConfig
from bus_mlops.errors import DamagedRunError, LedgerError
from bus_mlops.files import sha256_file
from bus_mlops.tracking.ledger import CURVES, MASKS, PREDICTIONS, Ledger
from bus_mlops.tracking.run_files import RunFiles

CONTENT = {
    PREDICTIONS: b"image_id,probability\nbusi/a,0.25\nbusi/b,0.75\n",
    CURVES: b"epoch,loss\n1,0.5\n2,0.25\n",
    MASKS: bytes(range(200)),
}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> Ledger:
    folder = tmp_path_factory.mktemp("store")
    return Ledger(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")))


def finished(ledger: Ledger, folder: Path, tags: dict[str, str] | None = None) -> str:
    """A finished run with three files."""
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    fixed = {"kind": "fold", "fingerprint": folder.name, "fold": "1", **(tags or {})}
    run_id = str(ledger.client.create_run(ledger.experiment, tags=fixed, run_name="a cell").info.run_id)
    ledger.finish(run_id, {"roc_auc": 0.9}, folder, {})
    return run_id


def artifacts(ledger: Ledger, run_id: str) -> Path:
    return Path(ledger.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, size: int) -> Callable[[Path], object]:
    return write(name, CONTENT[name][:size])


def replace(name: str, by: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        by(folder / name)

    return change


ROWS = len(b"image_id,probability\nbusi/a,0.25\n")
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut after a line": (cut(PREDICTIONS, ROWS), f"{PREDICTIONS} is changed"),
    "cut within a line": (cut(PREDICTIONS, ROWS + 4), f"{PREDICTIONS} is changed"),
    "emptied": (write(PREDICTIONS, b""), f"{PREDICTIONS} is changed: .* 0 bytes"),
    "other values": (write(PREDICTIONS, CONTENT[PREDICTIONS].replace(b"25", b"95")), f"{PREDICTIONS} is changed"),
    "no text": (write(PREDICTIONS, b"\xff\x00"), f"{PREDICTIONS} is changed"),
    "no predictions": (lambda folder: (folder / PREDICTIONS).unlink(), f"{PREDICTIONS} is missing: in file:"),
    "a folder instead": (replace(PREDICTIONS, Path.mkdir), f"{PREDICTIONS} is missing"),
    "a dangling link": (replace(PREDICTIONS, lambda path: path.symlink_to("nowhere")), PREDICTIONS),
    "curves cut": (cut(CURVES, len(b"epoch,loss\n1,0.5\n")), f"{CURVES} is changed"),
    "masks cut": (cut(MASKS, 50), f"{MASKS} is changed"),
    "no masks": (lambda folder: (folder / MASKS).unlink(), f"{MASKS} is missing"),
    "a file more": (write("more.csv", b""), "more.csv is not recorded"),
    "a folder more": (lambda folder: shutil.copytree(folder, folder / "more"), r"is not recorded.*\(and 2 more\)"),
    "nothing left": (shutil.rmtree, "is missing: in file:.*nothing is at all.*and 2 more"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_named_with_run_file_and_remedy(ledger, tmp_path, kind):
    damage, words = DAMAGES[kind]
    run_id = finished(ledger, tmp_path)
    damage(artifacts(ledger, run_id))
    said = []
    for read in (ledger.predictions, ledger.curves, lambda run: ledger.artifact(run, MASKS, tmp_path / "fetched")):
        try:
            read(run_id)
        except LedgerError as error:
            said.append(str(error))
    assert any(re.search(f"run {run_id} .*{words}", each) for each in said), said
    assert all("bus-mlops repair" in each or "cannot be read from file:" in each for each in said), said


def test_what_is_whole_is_read_and_litter_of_file_managers_is_no_evidence(ledger, tmp_path):
    run_id = finished(ledger, tmp_path)
    (artifacts(ledger, run_id) / ".DS_Store").write_bytes(b"\0")
    assert ledger.predictions(run_id)["probability"].tolist() == [0.25, 0.75]
    assert ledger.artifact(run_id, MASKS, tmp_path / "fetched").read_bytes() == CONTENT[MASKS]
    assert ledger.artifact_digests(run_id) == {name: sha256_file(tmp_path / name) for name in sorted(CONTENT)}


def test_the_record_cannot_be_changed_through_mlflow(ledger, tmp_path):
    run_id = finished(ledger, tmp_path)
    with pytest.raises(Exception, match="Changing param values is not allowed"):
        ledger.client.log_param(run_id, f"sha256.{PREDICTIONS}", "0" * 64)


def test_a_run_without_digests_is_not_read(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(RunFiles, "store", lambda *_: {})
    run_id = finished(ledger, tmp_path)
    with pytest.raises(DamagedRunError, match=f"run {run_id} .*no sha256 of its files on record.*repair --record"):
        ledger.predictions(run_id)


def test_a_store_that_does_not_answer_is_no_damage(ledger, tmp_path, monkeypatch):
    run_id = finished(ledger, tmp_path)

    def refuse(*_: object) -> None:
        raise RuntimeError("403 Forbidden")

    monkeypatch.setattr("mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository.list_artifacts", refuse)
    with pytest.raises(LedgerError, match=r"cannot be read from file:.*403 Forbidden") as caught:
        ledger.predictions(run_id)
    assert not isinstance(caught.value, DamagedRunError)


# Packages have digests of their own, in their metadata and in the version's tag; so has the decision of a record.
OTHERS = {"consumer/resolve.py", "promotion/registration.py", "promotion/records.py", "tracking/run_files.py"}


def test_nothing_else_reads_artifacts_of_runs():
    root = Path(bus_mlops.__file__).parent
    reads = re.compile(
        r"\b(download_artifacts|list_artifacts|load_text|load_dict|load_table|load_image|get_artifact_repository)\b"
    )
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if reads.search(path.read_text())}
    assert found <= OTHERS
