"""Table 3 beside ours: the paper's file sizes come out of our counts, where its own reading is right."""

from __future__ import annotations

import pandas as pd
import pytest

from bus_mlops.evaluation.paper.table3 import table3
from bus_mlops.evaluation.report.table3_section import table3_section
from bus_mlops.evaluation.tidy import Evaluated

# Totals of the networks with the paper's head, and of its reconstructions.
OURS = {
    "vgg16": 15_010_241,
    "emt_net": 5_108_650,
    "vakanski": 27_314_626,
    "mobilenet": 3_786_561,
    "mt_estan": 55_980_162,
}


@pytest.fixture
def table(tmp_path):
    costs = [{"network": name, "architecture": f"{name} at 224 px", "parameters": n} for name, n in OURS.items()]
    pd.DataFrame([*costs, costs[0]]).to_csv(tmp_path / "cost.csv", index=False)
    return table3(Evaluated({}, {}, {}, pd.DataFrame(), pd.DataFrame(), tmp_path, tmp_path))


def test_files_with_adams_state_weigh_what_the_paper_prints(table):
    lines = table.set_index("network")
    for name in ("vgg16", "emt_net", "vakanski"):
        assert lines.loc[name, "with_optimizer_megabytes"] == pytest.approx(lines.loc[name, "paper_megabytes"], abs=2)
    # Those of SGD with momentum hold twice the weights.
    assert 2 * lines.loc["mobilenet", "megabytes"] == pytest.approx(lines.loc["mobilenet", "paper_megabytes"], abs=1)


def test_each_network_has_a_line_and_only_the_papers_are_shown(table, tmp_path):
    assert sorted(table["network"]) == sorted(OURS)
    assert pd.isna(table.set_index("network").loc["mt_estan", "paper_megabytes"])
    table.to_csv(tmp_path / "table3.csv", index=False)
    section = table3_section(tmp_path)
    assert section is not None
    assert "VGG16" in section.html
    assert "mt_estan at 224 px" not in section.html
    assert ">138.3</td><td>15.01</td>" in section.html


def test_without_costs_there_is_no_section(tmp_path):
    empty = table3(Evaluated({}, {}, {}, pd.DataFrame(), pd.DataFrame(), tmp_path, tmp_path))
    assert empty.empty
    empty.to_csv(tmp_path / "table3.csv", index=False)
    assert table3_section(tmp_path) is None
    assert table3_section(tmp_path / "nothing") is None
