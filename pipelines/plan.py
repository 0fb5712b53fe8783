"""DVC stage `plan`: compile params.yaml into one plan file per strategy."""

from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.experiments.plan import unique_specs, write_plans
from bus_mlops.paths import PLAN


def main(config: Config) -> None:
    plans = write_plans(config, PLAN)
    specs = unique_specs(plans)
    cells = sum(len(config.folds_of(spec.cohort)) for spec in specs)
    print(f"[plan] {', '.join(plans)}: {len(specs)} specs, {cells} runs")


if __name__ == "__main__":
    run_stage(main)
