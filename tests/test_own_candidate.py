"""A network of the user's own from its file to a registered model: trained, searched, tuned, judged, promoted, used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from projects import run_stage_script
from typer.testing import CliRunner

from bus_mlops.cli.app import app
from bus_mlops.consumer.client import load_model
from bus_mlops.errors import RegistryError
from bus_mlops.evaluation.metrics import METRICS, RESERVED_NAMES, RESERVED_PREFIXES
from bus_mlops.extensions import load_extensions
from bus_mlops.project import load_config
from bus_mlops.tracking.ledger import Ledger

NAME = "bus-mine-phantom"
# The candidate, and what it is compared with.
MINE = '''"""Two small networks of our own, which differ in their width."""

from bus_mlops.models.extensions import network


@network(label="Mine", task="multitask", input_size=64, source="ours: two strided convolutions", multiple=4)
def mine(*, input_size, scaling, dropout):
    return _build(8, input_size, scaling, dropout)


@network(label="Rival", task="multitask", input_size=64, source="ours: half as wide", multiple=4)
def rival(*, input_size, scaling, dropout):
    return _build(4, input_size, scaling, dropout)


def _build(filters, input_size, scaling, dropout):
    import keras
    from keras import layers

    from bus_mlops.models.blocks import malignancy_head, mask_head
    from bus_mlops.models.scaling import scale

    image = keras.Input((input_size, input_size, 3), name="image")
    x = scale(image, scaling, "")
    for _ in range(2):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    malignancy = malignancy_head(layers.GlobalAveragePooling2D()(x), (8,), (dropout,))
    return keras.Model(image, {"malignancy": malignancy, "mask": mask_head(layers.UpSampling2D(4)(x))})
'''
STAGES = (
    ("plan",),
    ("train", "approaches"),
    ("search", "loss"),
    ("tuned", "loss"),
    ("probe",),
    ("evaluate",),
    ("promote",),
    ("report",),
)


@pytest.fixture(scope="module")
def project(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of phantoms after all stages, with the user's network as the candidate."""
    folder = Path(shutil.copytree(tiny_data, tmp_path_factory.mktemp("own") / "project"))
    (folder / "extensions").mkdir()
    (folder / "extensions" / "mine.py").write_text(MINE)
    values = yaml.safe_load((folder / "params.yaml").read_text())
    own = {"weights": "random", "scaling": "unit", "optimizer": {"name": "adam", "learning_rate": 0.001}}
    values["networks"] = {"mine": own, "rival": own}
    values["strategies"] = ["approaches"]
    values["strategy_settings"] = {}
    values["training"]["epochs"] = 1
    values["searches"] = {"loss": {**values["searches"]["mt_estan_loss"], "network": "mine"}}
    values["promotion"].update(candidate_network="mine", candidates=["loss"])
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.rmtree(folder / "results")  # the plan of the networks before
    for stage in STAGES:
        done = run_stage_script(stage[0], folder, *stage[1:])
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def ledger(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Its ledger, from within the project; its networks are forgotten afterwards."""
    monkeypatch.chdir(project)
    yield Ledger(load_config().tracking)
    load_extensions(project / "nothing")


@pytest.mark.slow
class TestACandidateOfOnesOwn:
    """In one class, so that the stages run once and in one process."""

    def test_it_is_searched_tuned_and_judged(self, project, ledger):
        best = json.loads((project / "results/search/loss/best.json").read_text())
        assert [trial["number"] for trial in best["trials"]] == [0, 1, 0, 1]  # of each fold
        tuned = json.loads((project / "results/plan/tuned-loss.json").read_text())
        assert [row["spec"]["network"] for row in tuned["rows"]] == ["mine"]
        gate = json.loads((project / "results/promotion/gate.json").read_text())
        assert (gate["model_name"], gate["candidate"][:16], gate["baseline"][:17]) == (
            NAME,
            "tuned-loss: Mine",
            "approaches: Rival",
        )
        report = (project / "results/report.html").read_text()
        assert all(f'<section id="{name}">' in report for name in ("approaches", "tuned-loss", "gate"))
        assert "Mine after the search loss" in report
        assert {run.data.tags["network"] for run in ledger.runs("tags.kind = 'fold'")} == {"mine", "rival"}

    def test_its_version_bears_its_name_and_history_says_so(self, project, ledger):
        record = json.loads((project / "results/promotion/promotion.json").read_text())
        assert (record["model"], str(record["version"])) == (NAME, "1")
        assert [each.name for each in ledger.client.search_registered_models()] == [NAME]
        said = json.loads(CliRunner().invoke(app, ["history", "--json"]).stdout)
        assert said["model"] == NAME
        assert [each["version"] for each in said["decisions"]] == ["1"]
        assert "tuned-loss: Mine" in said["decisions"][0]["candidate"]
        assert CliRunner().invoke(app, ["verify", "1"]).exit_code == 0

    def test_a_run_of_another_network_is_no_candidate(self, ledger):
        run = ledger.runs("tags.kind = 'fold' and tags.network = 'rival'")[0].info.run_id
        refused = CliRunner().invoke(app, ["promote", "--candidate", run]).exception
        assert isinstance(refused, RegistryError)
        assert f"is of the network rival, but {NAME} holds models of mine only" in str(refused)
        assert len(ledger.client.search_model_versions(f"name = '{NAME}'")) == 1

    def test_a_consumer_predicts_with_it(self, project, ledger):
        image = min((project / "data/phantom/busi/malignant").glob("*).png"))
        (row,) = load_model(f"models:/{NAME}/1").predict([image], masks=True)
        assert row.error is None
        assert row.mask is not None

    def test_what_its_runs_record_beside_metrics_is_reserved(self, ledger):
        recorded = set().union(*(run.data.metrics for run in ledger.runs("tags.kind = 'fold'")))
        beside = {name for name in recorded - set(METRICS) if not name.startswith(RESERVED_PREFIXES)}
        assert {"best_epoch", "loss"} <= beside <= RESERVED_NAMES
