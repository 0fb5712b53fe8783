"""Stage `audit`: duplicates and label conflicts; the groups that no split may divide."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.dataset.manifest import Benchmark
from bus_mlops.dataset.quality import audit, describe
from bus_mlops.files import replacing, write_json
from bus_mlops.stage import run_stage


def main(_: Config) -> None:
    groups, metrics = audit(Benchmark.open(paths.BENCHMARK))
    with replacing(paths.AUDIT / "groups.csv") as temporary:
        groups.to_csv(temporary, index=False, lineterminator="\n")
    write_json(paths.AUDIT / "audit.json", metrics)
    print(describe(metrics))


if __name__ == "__main__":
    run_stage(main)
