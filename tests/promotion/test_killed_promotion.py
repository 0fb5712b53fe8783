"""A promotion killed while it registers: no alias has moved, and the next one registers or decides once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import killed_promotion
import pytest
import yaml
from promotion_store import NAME, copy_store

from bus_mlops.promotion import records
from bus_mlops.promotion.aliases import Aliases


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "registered"),
    [("log_artifacts", 0), ("_create_model_version", 0), ("update_run", 1), ("set_registered_model_tag", 1)],
)
def test_a_promotion_killed_while_it_registers_is_finished_by_the_next_one(recorded, tmp_path, before, registered):
    store = copy_store(recorded, tmp_path)
    client = store.ledger.client
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["promotion"]["alpha"] = 0.5
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    script = str(Path(killed_promotion.__file__).resolve())
    done = subprocess.run([sys.executable, script, before], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(client.search_model_versions(f"name = '{NAME}'")) == registered
    assert store.aliases() == Aliases()
    assert store.history() == []

    outcome = store.promote(alpha=0.5)
    assert (outcome.version, outcome.decision, outcome.is_champion) == ("1", "promoted", True)
    assert store.aliases() == Aliases(champion="1")
    assert [each.decision for each in store.history()] == ["promoted"]
    experiment = client.get_experiment_by_name(records.EXPERIMENT)
    assert experiment is not None
    assert client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'") == []
