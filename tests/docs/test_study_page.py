"""The page of the study: it follows from its tables, says what is finished, and claims nothing without numbers."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from predictions import two_models
from projects import ROOT
from sklearn.metrics import roc_auc_score

from bus_mlops.experiments.plan import make_plans
from bus_mlops.files import read_json
from bus_mlops.project import profile_config
from bus_mlops.spec import LedgerKey
from bus_mlops.tracking.ledger import MODEL, PREDICTIONS

sys.path.insert(0, str(ROOT / "docs" / "generate"))

import study
import study_page

ABOUT = read_json(study_page.FOLDER / "about.json")
PLANS = make_plans(profile_config("study"))


@pytest.fixture
def project() -> study.Project:
    """What a ledger would have: two seeds of MobileNet TL and S, which differ by .1 in area, and nothing else."""
    found = object.__new__(study.Project)
    better, worse = two_models(0, (0.9, 0.8), images=400, seeds=2)
    found.rows, found._frames = [], {}
    for name, plan in PLANS.items():
        for row in plan.rows:
            frame = {"TL": better, "S": worse}.get(row.variant if row.model == "MobileNet" else "")
            seeds = () if frame is None or row.choice else tuple(sorted(frame["seed"].unique()))
            runs = {}
            for seed in seeds:
                assert frame is not None
                run = f"{row.variant}-{seed}"
                found._frames[run] = frame[frame["seed"] == seed].assign(threshold=0.5, dice=np.nan)
                runs[LedgerKey("f" * 64, seed)] = (seed, run)
            if not row.choice:
                done = frozenset(runs)
                found.rows.append(study.Trained(name, row, seeds, plan.seeds, plan.folds, runs, done, done))
    return found


def test_the_page_is_the_one_that_follows_from_its_tables():
    tables = study_page.read()
    assert (study_page.FOLDER / "index.md").read_text("utf-8") == study_page.page(tables, ABOUT)
    readme = study_page.README.read_text("utf-8")
    assert study_page.MARKS.sub(lambda marks: f"{marks[1]}{study_page.lead(tables, ABOUT)}{marks[2]}", readme) == readme


def test_published_trainings_give_the_published_numbers():
    tables = study_page.read()
    with zipfile.ZipFile(study_page.FOLDER / "runs.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith("run.json")]
        runs = {name.split("/")[1]: json.loads(archive.read(name)) for name in names}
        bytes_of = {run: archive.read(f"runs/{run}/files/{PREDICTIONS}") for run in runs}
    assert not [name for name in names if name.endswith(MODEL)]
    recorded = tables["cells"].set_index("run")["predictions_sha256"]
    assert set(recorded.index) <= set(runs)  # and those of seeds that are not finished yet
    areas: dict[str, list[float]] = {}
    for run, packed in runs.items():
        digest = hashlib.sha256(bytes_of[run]).hexdigest()
        assert packed["params"][f"sha256.{PREDICTIONS}"] == digest
        assert recorded.get(run, digest) == digest
        frame = pd.read_csv(io.BytesIO(bytes_of[run]))
        test = frame[frame["part"] == "test"]
        areas.setdefault(packed["tags"]["fingerprint"], []).append(roc_auc_score(test["label"], test["probability"]))
    rows = study_page.finished(tables["rows"])
    for row in rows.to_dict("records"):
        own = [area for fingerprint in row["fingerprints"].split() for area in areas[fingerprint]]
        assert np.mean(own) == pytest.approx(row["roc_auc"], abs=1e-6)
        assert len(own) == 5 * row["seeds"]


def test_every_row_of_the_profile_is_in_the_table_finished_or_not():
    rows = study_page.read()["rows"]
    planned = [(n, r.model, r.variant) for n, plan in PLANS.items() for r in plan.rows if not r.choice]
    assert list(rows[["strategy", "model", "variant"]].itertuples(index=False, name=None)) == planned
    assert (rows["roc_auc"].notna() == (rows["seeds"] > 0)).all() if "roc_auc" in rows else not rows["seeds"].any()


def test_what_the_paper_found_is_asked_of_rows_that_are_planned(project):
    names = {trained.name for trained in project.rows}
    assert {row for _, *rows in study.FINDINGS for row in rows} <= names


def test_a_finding_has_a_number_where_both_rows_are_finished_and_none_elsewhere(project):
    table = study.findings_table(project).set_index("claim")
    known = table.loc["ImageNet weights help: MobileNet"]
    assert known["low"] < known["difference"] < known["high"]
    assert known["difference"] == pytest.approx(0.1, abs=0.03)
    assert table["difference"].notna().sum() == 1
    lines = list(study_page._findings(table.reset_index()))
    assert any("ImageNet weights help: MobileNet" in line and "| yes |" in line for line in lines)
    assert sum("not trained yet" in line for line in lines) == len(study.FINDINGS) - 1


def test_a_claim_holds_by_the_p_that_is_adjusted_for_all_claims_also_those_to_come():
    p = [0.01, 0.02, *[np.nan] * 3]
    table = pd.DataFrame({"claim": list("abcde"), "difference": [0.1, -0.1, *[np.nan] * 3], "p": p})
    table = table.assign(low=table["difference"] - 0.01, high=table["difference"] + 0.01)
    first, second, *_ = list(study_page._findings(table))[2:]
    assert [cell.strip() for cell in first.split("|")[-4:-1]] == ["0.01", "0.05", "undecided"]
    assert second.split("|")[-3].strip() == "0.08"
    sure = study_page._findings(table.assign(p=[0.001, 0.002, *[np.nan] * 3]))
    assert [line.split("|")[-2].strip() for line in list(sure)[2:4]] == ["yes", "the other way round"]


def test_patients_are_scored_by_the_greatest_and_the_mean_of_their_images():
    cell = pd.DataFrame(
        {
            "image_id": ["a1", "a2", "b1"],
            "case_id": ["a", "a", "b"],
            "group": ["a", "a", "b"],
            "label": [1, 1, 0],
            "probability": [0.2, 0.6, 0.1],
            "threshold": 0.5,
            "fold": 1,
            "seed": 1,
        }
    )
    found = {unit: list(scored["probability"]) for unit, scored in study._units(cell)}
    assert found == {"image": [0.2, 0.6, 0.1], "patient, max": [0.6, 0.1], "patient, mean": [pytest.approx(0.4), 0.1]}
    alone = [unit for unit, _ in study._units(cell.iloc[1:])]
    assert alone == ["image"]


def test_the_readme_leads_with_the_study_from_its_first_finding_on():
    rows = study_page.read()["rows"]
    numbers = {f"{metric}{end}": 0.9 for metric in ("roc_auc", "sensitivity") for end in ("", "_low", "_high")}
    rows = rows.assign(**numbers)
    wanted = (rows["strategy"] == "transfer_learning") & (rows["model"] == "MobileNet")
    assert study_page.lead({"rows": rows.assign(seeds=np.where(wanted & (rows["variant"] == "TL"), 1, 0))}, ABOUT) == ""
    rows = rows.assign(seeds=np.where(wanted, 1, 0), roc_auc=np.arange(len(rows)) / len(rows))
    again = rows[wanted].assign(strategy="augmentation")
    text = study_page.lead({"rows": pd.concat([rows, again])}, ABOUT)
    assert text.startswith("## On real images\n\nPartial: ")
    assert text.count("| transfer learning |") == wanted.sum() == 2
    assert "augmentation" not in text  # the same trainings


def test_a_decision_of_the_gate_leads_and_an_early_one_says_so():
    decision = "# Gate of bus-mt-estan: REFUSED by G1\n\nCandidate: MT-ESTAN.\n"
    rows = study_page.read()["rows"]
    early = "\n".join(study_page._gate(decision, rows.assign(seeds=np.where(rows["model"] == "EMT-Net", 0, 1))))
    assert "**An early look**" in early
    assert "EMT-Net Multi 0 of 2" in early
    assert "### Gate of bus-mt-estan: REFUSED" in early
    complete = "\n".join(study_page._gate(decision, rows.assign(seeds=rows["seeds_planned"])))
    assert "early" not in complete
    assert complete.startswith("### Gate of bus-mt-estan: REFUSED")
    assert "\n".join(study_page._gate("", rows)).startswith("**Not judged yet**")
    assert list(study_page._verdict("")) == []
    assert "**REFUSED by floors**" in next(study_page._verdict(decision))
