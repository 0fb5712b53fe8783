"""Stage `leakage`: stops the run when a leakage group or a case lies in two parts of a fold."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.dataset.folds import Folds
from bus_mlops.dataset.leakage import check_leakage, describe, require_current
from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.dataset.quality import read_groups
from bus_mlops.files import write_json
from bus_mlops.stage import run_stage


def main(_: Config) -> None:
    frame = Benchmark.open(paths.BENCHMARK).frame
    folds = Folds.open(paths.FOLDS / "folds.csv", frame["image_id"])
    require_current(folds, frame, read_groups(paths.AUDIT / "groups.csv"))
    checked = check_leakage(folds)
    write_json(paths.FOLDS.parent / "leakage.json", checked)
    print(describe(checked))


if __name__ == "__main__":
    run_stage(main)
