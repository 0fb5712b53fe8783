"""Tables of probes: known falls and shares come out, with intervals around them; nothing probed gives empty tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation import probed
from bus_mlops.evaluation.report.probed_sections import cost_section, failures_section, robustness_section
from bus_mlops.evaluation.tidy import Evaluated

ROW = {"strategy": "approaches", "model": "MT-ESTAN", "variant": "<Multi>", "network": "mt_estan"}
IMAGES = 120


def images() -> pd.DataFrame:
    """Two folds of images, half malignant, two of a case."""
    number = np.arange(IMAGES)
    frame = pd.DataFrame({"image_id": [f"busi/{k}" for k in number], "source": "busi", "label": number // 2 % 2})
    return frame.assign(group=[f"g{k // 2}" for k in number], seed=1, fold=1 + number // (IMAGES // 2), **ROW)


def write_probes(folder: Path) -> Path:
    """Files as the stage leaves them: blur makes noise of sure answers, half of the maps point at the lesion."""
    folder.mkdir(parents=True)
    rng, frame = np.random.default_rng(0), images()
    sure = np.where(frame["label"] == 1, 0.9, 0.1) + rng.uniform(-0.05, 0.05, IMAGES)
    noise = rng.uniform(0, 1, IMAGES)
    kinds = (("none", 0.0, "as it is", sure), ("blur", 0.5, "a little", sure), ("blur", 1.0, "sigma", noise))
    lines = [frame.assign(corruption=k, strength=s, parameter=p, probability=values) for k, s, p, values in kinds]
    pd.concat(lines).to_parquet(folder / "robustness.parquet")
    looked = frame.assign(
        probability=sure, hit=np.arange(IMAGES) % 4 // 2 * 1.0, energy=0.4, chance=0.1, centre=0.3, hit_own_mask=np.nan
    )
    looked.assign(chance_own_mask=np.nan).to_parquet(folder / "explanations.parquet")
    worst = frame.iloc[[2, 0]].assign(kind=["false negative", "false positive"], rank=1, probability=[0.01, 0.99])
    worst = worst.assign(has_mask=[1, 0], neighbour="busi/9", neighbour_label=0, similarity=0.87)
    worst.to_csv(folder / "failures.csv", index=False)
    square = rng.integers(0, 256, (2, 96, 96)).astype(np.uint8)
    np.savez(folder / "pictures.npz", image=square, neighbour=square, heat=square, mask=square)
    cost = {"architecture": "mt_estan at 64 px", "input_size": 64, "parameters": 2e6, "multiply_accumulates": 3e8}
    measured = {"latency_ms": 12.5, "threads": 2, "peak_memory_mb": 140.0, "machine": "a processor"}
    pd.DataFrame([{**ROW, **cost, **measured}]).to_csv(folder / "cost.csv", index=False)
    return folder


def evaluated(folder: Path) -> Evaluated:
    nothing = pd.DataFrame()
    return Evaluated({}, {}, {}, nothing, nothing, folder, folder)


TABLES = {
    "robustness": probed.robustness_table,
    "explanations": probed.explanation_table,
    "failures": probed.failure_table,
    "cost": probed.cost_table,
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, pd.DataFrame]:
    folder = write_probes(tmp_path_factory.mktemp("results") / "probes")
    made = {name: compute(evaluated(folder)) for name, compute in TABLES.items()}
    (folder.parent / "tables").mkdir()
    for name, table in made.items():
        table.to_csv(folder.parent / "tables" / f"{name}.csv", index=False)
    results = pd.DataFrame([{"model": ROW["model"], "variant": ROW["variant"], "roc_auc_mean": 0.9}])
    results.to_csv(folder.parent / "tables" / "approaches.csv", index=False)
    made["folder"] = pd.DataFrame({"path": [str(folder.parent / "tables")]})
    return made


def test_a_fall_is_that_of_the_same_images(tables):
    drops = tables["robustness"].query("what == 'drop'").set_index(["corruption", "strength", "metric"])
    little, much = drops.loc[("blur", 0.5, "roc_auc")], drops.loc[("blur", 1.0, "roc_auc")]
    assert (little["estimate"], little["low"], little["high"]) == (0, 0, 0)
    assert 0.3 < much["low"] < much["estimate"] < much["high"] < 0.7
    level = tables["robustness"].query("what == 'level' and corruption == 'none'").set_index("metric")
    assert level.loc["roc_auc", "estimate"] == 1
    assert set(tables["robustness"]["images"]) == {IMAGES}
    with pytest.raises(EvaluationError, match="lacks one of its corruptions"):
        probed.paired_drop("roc_auc", images().assign(probability=0.5), images().assign(probability=0.5).head(9))


def test_looking_at_the_lesion_is_a_number_beside_chance_and_area(tables):
    found = tables["explanations"].set_index("metric")
    assert found.loc["pointing", "estimate"] == pytest.approx(0.5)
    assert found.loc["pointing", "low"] < 0.5 < found.loc["pointing", "high"]
    assert found.loc["pointing_above_chance", "estimate"] == pytest.approx(0.4)
    assert found.loc["energy", ["low", "high"]].tolist() == pytest.approx([0.4, 0.4])
    assert found.loc["roc_auc", "estimate"] == 1
    assert "pointing_own_mask" not in found.index


def test_an_interval_of_a_mean_covers_it_and_widens_with_the_groups():
    """Hits that come in whole groups say half as much as hits that come alone."""
    frame = images()
    alone, grouped = np.arange(IMAGES) % 2, np.arange(IMAGES) // 2 % 2
    widths = [probed.mean_over_images(frame, values.astype(float)) for values in (alone, grouped)]
    assert widths[0].high - widths[0].low < 1e-9
    assert widths[1].high - widths[1].low == pytest.approx(2 * 1.96 * 0.5 / 60**0.5, rel=0.15)


def test_what_no_image_shows_is_not_taken_for_impossible():
    frame = images()
    clean = frame.assign(probability=np.where(frame["label"] == 1, 0.9, 0.1))
    found = probed.paired_drop("sensitivity", clean, clean.assign(probability=clean["probability"] * 0.8 + 0.1))
    unseen = stats.binomtest(0, 30).proportion_ci(method="wilson").high  # of 30 malignant groups
    assert (found.estimate, found.low, found.high) == pytest.approx((0, -unseen, unseen))
    never = probed.mean_over_images(frame, np.zeros(IMAGES))
    unseen = stats.binomtest(0, 60).proportion_ci(method="wilson").high
    assert (never.estimate, never.low, never.high) == pytest.approx((0, 0, unseen))


def test_the_sections_are_drawn_from_files_alone(tables):
    folder = Path(tables["folder"]["path"].iloc[0])
    failures, robustness, cost = (build(folder) for build in (failures_section, robustness_section, cost_section))
    assert failures is not None
    assert failures.html.count("data:image/jpeg;base64,") == 4
    assert "&lt;Multi&gt;" in failures.html
    assert "p = 0.010" in failures.html
    assert "no mask" in failures.html
    assert len(failures.html) < 100_000
    assert robustness is not None
    assert "sigma" in robustness.html
    assert "a little" not in robustness.html
    assert cost is not None
    assert "0.3" in cost.html
    assert "12.5" in cost.html
    assert "2 threads on a processor" in cost.html.replace("\n", " ")


def test_without_probes_there_are_columns_and_no_section(tmp_path):
    for name, compute in TABLES.items():
        table = compute(evaluated(tmp_path / "nowhere"))
        assert table.empty
        assert len(table.columns) > 5
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    assert [build(tmp_path) for build in (failures_section, robustness_section, cost_section)] == [None] * 3
