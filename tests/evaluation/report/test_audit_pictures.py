"""The report's view of the audit: pictures that are the benchmark's own, and counts of what the folds left out."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from projects import plant_conflict, run_stage_here

from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.errors import EvaluationError
from bus_mlops.evaluation.report.audit_pictures import excluded_images, excluded_sentence, read_conflicts, read_excluded


def test_pictures_of_a_conflict_are_those_of_its_images(tiny_project: Path):
    data = tiny_project / "data"
    planted = plant_conflict(tiny_project)
    audit = json.loads((data / "audit/audit.json").read_text())
    (cluster,) = read_conflicts(data, audit)
    assert [image["label"] for image in cluster] == [0, 1]
    assert planted in [image["image_id"] for image in cluster]
    benchmark = Benchmark.open(data / "benchmark")
    rows = benchmark.frame.set_index("image_id")["index"]
    for image in cluster:
        picture = np.asarray(Image.open(io.BytesIO(image["picture"])))
        whole = Image.fromarray(np.asarray(benchmark.images(64)[rows[image["image_id"]]]))
        assert np.array_equal(picture, np.asarray(whole.resize((128, 128), Image.Resampling.BILINEAR)))
    audit["conflicts"]["clusters"][0]["benign"] = ["busi/gone"]
    with pytest.raises(EvaluationError, match=r"busi/gone was audited but is not in the benchmark"):
        read_conflicts(data, audit)
    assert read_conflicts(data, {"conflicts": {"clusters": []}}) == []


def test_what_the_folds_exclude_is_counted_with_its_reason(tiny_project: Path):
    before = Benchmark.open(tiny_project / "data/benchmark").info["flow"]
    assert read_excluded(tiny_project / "data", before) == ({}, before)
    values = yaml.safe_load((tiny_project / "params.yaml").read_text())
    values["audit"] = {"exclude": "duplicates"}
    (tiny_project / "params.yaml").write_text(yaml.safe_dump(values))
    assert run_stage_here("folds", tiny_project).returncode == 0
    excluded, flow = read_excluded(tiny_project / "data", before)
    assert excluded == {"busi": {"near-duplicate": 2}, "hmss": {"near-duplicate": 1}}
    assert excluded_sentence(excluded).startswith("3 images were left out")
    assert flow["busi"]["listed"] == 26
    assert flow["busi"]["kept"] == flow["busi"]["with_mask"] == 24
    assert flow["busi"]["excluded"] == {"near-duplicate": 2}
    assert all(counts["benign"] + counts["malignant"] == counts["kept"] for counts in flow.values())
    assert flow["busis"] == before["busis"]
    assert read_excluded(tiny_project, before) == ({}, before)


def test_reasons():
    manifest = pd.DataFrame({"image_id": ["a/1", "a/2", "b/3"], "source": ["a", "a", "b"]})
    rows = [("a/1", "conflict"), ("a/2", "conflict"), ("a/1", "duplicate")]
    exclusions = pd.DataFrame(rows, columns=["image_id", "reason"])
    folds = manifest[["image_id"]]
    assert excluded_images(manifest, folds.iloc[2:], exclusions) == {"a": {"conflicting labels": 2}}
    assert excluded_images(manifest, folds.iloc[1:], exclusions) == {"a": {"near-duplicate": 1}}
    assert excluded_images(manifest, folds.iloc[:2], exclusions) == {"b": {"not in the folds": 1}}
