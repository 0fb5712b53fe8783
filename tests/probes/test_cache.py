"""What was computed is not computed again, and what was cut off leaves nothing."""

from __future__ import annotations

import pandas as pd
import pytest

from bus_mlops.probes.cache import ProbeCache


def test_a_question_is_answered_once_and_again_when_it_differs(tmp_path):
    asked: list[str] = []

    def answer(name: str) -> pd.DataFrame:
        asked.append(name)
        return pd.DataFrame({"name": [name]})

    for _ in range(2):
        cache = ProbeCache(tmp_path)
        assert cache.frame({"run": "a", "strength": 0.5}, lambda: answer("half"))["name"].tolist() == ["half"]
        assert cache.frame({"strength": 1.0, "run": "a"}, lambda: answer("whole"))["name"].tolist() == ["whole"]
    assert asked == ["half", "whole"]


def test_what_was_cut_off_leaves_nothing(tmp_path):
    def cut_off() -> pd.DataFrame:
        raise KeyboardInterrupt

    cache = ProbeCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.frame({"run": "a"}, cut_off)
    assert list(tmp_path.iterdir()) == []
    assert len(cache.frame({"run": "a"}, lambda: pd.DataFrame({"x": [1]}))) == 1
