"""Stage `folds`: grouped, stratified cross-validation with a validation part in every fold."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.dataset.folds import make_folds
from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.dataset.quality import read_groups
from bus_mlops.files import replacing
from bus_mlops.stage import run_stage


def main(config: Config) -> None:
    groups = read_groups(paths.AUDIT / "groups.csv")
    folds = make_folds(Benchmark.open(paths.BENCHMARK).frame, groups, config.folds, config.seed)
    with replacing(paths.FOLDS / "folds.csv") as temporary:
        folds.to_csv(temporary, index=False, lineterminator="\n")
    print(f"folds: {config.folds.count} folds of {len(folds)} images in {folds['group'].nunique()} leakage groups")


if __name__ == "__main__":
    run_stage(main)
