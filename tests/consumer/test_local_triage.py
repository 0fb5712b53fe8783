"""Triage calibrated on local cases: it keeps its rates there, and serves only its model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bus_mlops.consumer.client import load_model
from bus_mlops.consumer.local_triage import called_by, fit_rule, write_triage
from bus_mlops.consumer.refusal import TriageRule
from bus_mlops.errors import RegistryError


def rule(low: float | None, high: float | None) -> TriageRule:
    return TriageRule(
        miss_rate=0.05, false_alarm_rate=0.1, malignant_cases=40, benign_cases=60, low=low, high=high, nominal_npv=0.9
    )


def place(cases: int, images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and cases of so many images a case, a third of them malignant."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.random(cases) < 1 / 3, images).astype(int)
    score = 2 * labels + np.repeat(rng.normal(size=cases), images) + 0.5 * rng.normal(size=images * cases)
    return labels, 1 / (1 + np.exp(-score)), np.repeat(np.arange(cases), images).astype(np.str_)


@pytest.mark.parametrize("images", [1, 2])
def test_local_cases_keep_miss_rate_and_nominal_npv(images):
    missed, found = [], []
    for seed in range(300):
        labels, probabilities, cases = place(240, images, seed)
        own = np.arange(len(labels)) < 120 * images
        fitted = fit_rule(labels[own], probabilities[own], cases[own], 0.05, 0.1)
        low = called_by(fitted, probabilities[~own]) == "low"
        rest = labels[~own]
        missed.append(low[rest == 1].reshape(-1, images).any(axis=1).mean())
        if fitted.nominal_npv is not None:
            benign = (called_by(fitted, probabilities[own]) == "low")[labels[own] == 0].sum()
            found.append((low.sum(), (low & (rest == 0)).sum(), benign / fitted.nominal_npv, benign))
    assert np.mean(missed) <= 0.055
    assert len(found) > 250
    low, benign, nominal_low, nominal_benign = np.sum(found, axis=0)
    assert benign / low == pytest.approx(nominal_benign / nominal_low, abs=0.01)


def test_of_one_image_a_case_the_nominal_share_counts_what_so_many_cases_attain():
    labels, probabilities, cases = place(240, 1, 0)
    fitted = fit_rule(labels, probabilities, cases, 0.05, 0.1)
    malignant, benign = fitted.malignant_cases, (probabilities < fitted.low)[labels == 0].sum()
    attained = np.floor(0.05 * (malignant + 1)) / (malignant + 1)
    assert fitted.nominal_npv == pytest.approx(benign / (benign + attained * malignant))


def test_a_file_takes_the_place_of_the_packages_rule(package_folder, tmp_path: Path):
    path, picture = tmp_path / "triage.json", np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 251
    square = picture.astype(np.uint8)
    plain = load_model(package_folder)
    (known,) = plain.predict([square])
    for cuts, said in (((1.0, 1.0), "low"), ((0.0, 0.0), "high"), ((None, None), "uncertain")):
        write_triage(path, plain.name, plain.digest, rule(*cuts))
        (row,) = load_model(package_folder, triage=path).predict([square])
        assert (row.triage, row.probability) == (said, known.probability)


def test_a_file_for_another_package_or_none_is_refused(package_folder, tmp_path: Path):
    model, path = load_model(package_folder), tmp_path / "triage.json"
    write_triage(path, model.name, model.digest, rule(0.1, 0.9))
    text = path.read_text()
    for wrong, said in (
        (text.replace(model.digest, "0" * 64), "was calibrated on answers of"),
        (text.replace("0.05", '"0.05"'), "holds no triage of `bus-mlops accept --out DIR`"),
        ("[]", "holds no triage"),
    ):
        path.write_text(wrong)
        with pytest.raises(RegistryError, match=said):
            load_model(package_folder, triage=path)
    with pytest.raises(RegistryError, match=r"gone\.json cannot be read"):
        load_model(package_folder, triage=tmp_path / "gone.json")
