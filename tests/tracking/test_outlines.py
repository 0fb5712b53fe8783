"""Outlines in MLflow: which images are shown, and what is drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bus_mlops.tracking.outlines import GREEN, RED, choose, draw


def test_every_source_and_class_is_shown_with_what_went_well_and_what_did_not():
    rows = [
        {"part": "test", "source": source, "label": label, "image_id": f"{source}/{label}{number}", "dice": number / 9}
        for source in ("busi", "busis")
        for label in (0, 1)
        for number in range(9)
    ]
    frame = pd.DataFrame([*rows, {**rows[0], "part": "validation", "image_id": "busi/none", "dice": 0.0}])
    once = choose([frame])
    assert once == choose([frame, frame])
    assert once[:4] == ["busi/04", "busi/14", "busis/04", "busis/14"]  # the median of each
    assert once[4:] == ["busi/00", "busi/10", "busis/00", "busis/10"]  # the worst of each
    assert choose([frame.assign(dice=np.nan)]) == []


def test_both_outlines_are_drawn_on_the_enlarged_image():
    true, predicted = np.zeros((2, 64, 64), np.uint8)
    true[10:30, 10:30] = 1
    predicted[40:50, 40:50] = 255
    drawn = draw(np.full((64, 64), 90, np.uint8), true, predicted)
    assert drawn.shape == (256, 256, 3)
    assert (tuple(drawn[40, 40]), tuple(drawn[160, 160])) == (GREEN, RED)
    assert tuple(drawn[80, 80]) == tuple(drawn[0, 0]) == (90, 90, 90)
