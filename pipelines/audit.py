"""Stage `audit`: duplicates and label conflicts; the groups that no split may divide; what might be left out."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.dataset.audit import audit, describe
from bus_mlops.dataset.benchmark import Benchmark
from bus_mlops.dataset.exclusions import count_excluded, list_exclusions
from bus_mlops.entry import run_stage
from bus_mlops.files import replacing, write_json
from bus_mlops.paragraphs import tell


def main(config: Config) -> None:
    benchmark = Benchmark.open(paths.BENCHMARK)
    found = audit(benchmark, config.external)
    exclusions = list_exclusions(benchmark.frame, found.clusters, found.groups, config.external)
    for name, frame in {"groups": found.groups, "pairs": found.pairs, "exclusions": exclusions}.items():
        with replacing(paths.AUDIT / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, lineterminator="\n")
    write_json(paths.AUDIT / "audit.json", {**found.metrics, "excludable": count_excluded(benchmark.frame, exclusions)})
    tell("audit", describe(found.metrics))


if __name__ == "__main__":
    run_stage(main)
