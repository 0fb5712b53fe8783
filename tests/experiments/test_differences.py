"""The page of differences is that of the profiles as they are, and names what is known to differ."""

from __future__ import annotations

import pytest
from projects import ROOT

from bus_mlops.experiments import differences_page
from bus_mlops.experiments.differences import Difference
from bus_mlops.project import profile_config

PAGE = ROOT / "docs/explanation/what-differs.md"


def test_the_committed_page_is_that_of_the_profiles():
    found = differences_page.render(profile_config("paper"), profile_config("official-code"))
    assert PAGE.read_text() == found, f"bus-mlops profile --differences > {PAGE.relative_to(ROOT)}"


@pytest.mark.parametrize(
    ("key", "ours", "decided"),
    [
        ("Near-duplicates", "stay in one part", "folds.kind: grouped"),
        ("Balance of the folds", "balanced over test, training and validation", "folds.kind: grouped"),
        ("Colour", "one gray channel", "data.color: gray"),
        ("Resizing", "averages over the area", "-"),
        ("Whose weights are tested", "for every network", "training.kept_epoch: best"),
        (
            "Table 6: the weight and the focal pair",
            "highest F1 on its own validation part",
            "strategy_settings.losses.standard_errors: 1",
        ),
        (
            "Table 8: rows Single",
            "its scaling, size, epochs",
            "scaling: unit`<br>`networks.mobilenet_multitask.epochs: 70",
        ),
        ("Table 8: EfficientNetB0", "does so again", "networks.efficientnetb0_multitask.scaling: unit"),
    ],
)
def test_what_the_profile_paper_does_otherwise_is_declared(key, ours, decided):
    paper = PAGE.read_text().split("## The profile")[1]
    line = next(line for line in paper.splitlines() if line.startswith(f"| {key} |"))
    assert ours in line
    assert line.split(" | ")[-1].strip("`| ").endswith(decided)


def test_a_key_that_a_profile_lacks_is_an_error(monkeypatch):
    gone = Difference("x", "x", "x", "x", ("folds.stratified",))
    monkeypatch.setattr(differences_page, "PAPER", (gone,))
    with pytest.raises(KeyError, match=r"folds\.stratified"):
        differences_page.render(profile_config("paper"), profile_config("official-code"))
