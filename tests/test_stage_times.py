"""What stages take is noted under their names, and summed over the last run of each."""

from __future__ import annotations

import json

import pytest

from bus_mlops.stage_times import timed, with_stage


def test_a_stage_that_runs_again_replaces_what_it_took(tmp_path):
    recorded = with_stage({}, "plan", {"wall_seconds": 9.0, "cpu_seconds": 3.0})
    recorded = with_stage(recorded, "train@losses", {"wall_seconds": 5.04, "cpu_seconds": 8.0})
    recorded = with_stage(recorded, "plan", {"wall_seconds": 1.0, "cpu_seconds": 2.0})
    assert (recorded["wall_seconds"], recorded["cpu_seconds"]) == (6.0, 10.0)
    path = tmp_path / "results" / "timing.json"
    path.parent.mkdir()
    path.write_text("{")  # cut off: begun anew
    with timed("plan", path):
        pass
    assert list(json.loads(path.read_text())["stages"]) == ["plan"]
    with pytest.raises(ValueError, match="it fails"), timed("folds", path):
        raise ValueError("it fails")
    assert list(json.loads(path.read_text())["stages"]) == ["plan"]
