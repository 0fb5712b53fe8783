"""Optuna's plots of hand-made searches: whatever its trials are like, a search has figures that can be looked at."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
import pytest
from PIL import Image
from searched import make_result

from bus_mlops.evaluation.report.search_figures import search_figures
from bus_mlops.evaluation.report.searches import search_sections
from bus_mlops.evaluation.searched import SearchResult

USUAL = {"history", "parallel coordinates", "importances", "slices"}
ONE: dict[str, Any] = {"folds": (1,), "trials": 3}
CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "conditional parameters, three folds": ({}, USUAL),
    "two objectives": ({"trials": 4, "objective": ("sensitivity", "specificity")}, USUAL | {"Pareto front"}),
    "one trial": ({"folds": (1,), "trials": 1}, {"history"}),
    "only failures": ({**ONE, "state": lambda number: "failed"}, set()),
    "only pruned ones": ({**ONE, "state": lambda number: "pruned"}, set()),
    "one number": ({**ONE, "parameters": lambda n: {"dropout": n / 10}}, USUAL - {"importances"}),
    "only choices": ({**ONE, "parameters": lambda n: {"optimizer.name": "ab"[n % 2], "flip": n > 1}}, USUAL),
    "always the same": ({**ONE, "parameters": lambda n: {"dropout": 0.5}}, {"history"}),
    "whole and tiny numbers": (
        {**ONE, "parameters": lambda n: {"batch_size": 8 * 2**n, "optimizer.learning_rate": 10.0**-n}},
        USUAL,
    ),
    "a metric that is gone, less of which is better": ({**ONE, "objective": ("brier",)}, USUAL),
    "one choice for all folds": ({**ONE, "folds": (0,), "state": lambda n: "failed" if n == 1 else "complete"}, USUAL),
}


def settings_of_matplotlib() -> dict[str, object]:
    """All of them; the first figure of a process spells the backend in lower case."""
    found: dict[str, object] = {name: value for name, value in matplotlib.rcParams.items()}  # noqa: C416 - of typed keys
    return found | {"backend": str(found["backend"]).lower()}


@pytest.mark.parametrize("case", CASES)
def test_a_search_has_the_figures_that_its_trials_suffice_for(case):
    settings, expected = CASES[case]
    before = settings_of_matplotlib()
    figures = search_figures(make_result(**settings), "mt_estan")
    assert set(figures) == expected
    assert settings_of_matplotlib() == before  # Optuna sets a style of its own for the whole process
    for drawn in figures.values():
        image = Image.open(io.BytesIO(drawn))
        assert image.width > 250
        assert len(image.getcolors() or ()) > 4  # more than axes on white
        assert len(drawn) < 50_000


def test_the_same_trials_make_the_same_bytes_and_others_do_not():
    two, again, one = (search_figures(make_result(folds=(1,), trials=count), "mt_estan") for count in (2, 2, 1))
    assert two == again
    assert two["history"] != one["history"]


def test_words_say_by_what_a_trial_was_chosen_and_what_it_reached():
    front = {"objective": ("sensitivity", "specificity"), "constraint": {"sensitivity": 0.8}}
    cases: list[tuple[dict[str, Any], str, str, int]] = [
        ({}, "judged by validation ROC AUC", "ROC AUC", 1),
        (
            {"constraint": {"sensitivity": 0.8}},
            "judged by validation ROC AUC, among those with Sensitivity of at least 80.0 %",
            "ROC AUC, Sensitivity",
            2,
        ),
        (
            front,
            "that no other beats in one .*, the best in Specificity is chosen",
            "Sensitivity, Specificity",
            2,
        ),
    ]
    for settings, made, headings, values in cases:
        (section,) = search_sections({"mine": make_result(folds=(1,), trials=2, **settings)})
        assert re.search(f"{made}$", section["made"])
        assert section["headings"] == headings
        row = section["networks"][0]["choices"][0]
        assert [len(row[name].split(", ")) for name in ("value", "first")] == [values, values]


def test_a_network_without_trials_has_none():
    assert search_figures(make_result(), "vgg16") == {}
    assert search_figures(SearchResult(search="empty", note="the profile lacks its network"), "vgg16") == {}
