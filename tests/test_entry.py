"""How a stage begins: where it refuses to."""

from __future__ import annotations

import pytest

from bus_mlops import profiles
from bus_mlops.entry import run_stage


def test_a_stage_refuses_dvcs_temporary_copies_of_a_project_by_name(tmp_path, monkeypatch, capsys):
    folder = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1a2b3c"
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(profiles.text("demo"))
    monkeypatch.chdir(folder)
    ran: list[object] = []
    with pytest.raises(SystemExit):
        run_stage(ran.append)
    assert "`dvc exp run --temp` and `--queue`" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(profiles.text("demo"))
    run_stage(ran.append)
    assert len(ran) == 1
