"""DVC stage `plan`: compile params.yaml into one plan file per strategy."""

from bus_mlops.config import Config
from bus_mlops.experiments.plan import unique_specs, write_plans
from bus_mlops.paths import PLAN
from bus_mlops.stage import run_stage


def main(config: Config) -> None:
    plans = write_plans(config, PLAN)
    cells = len(unique_specs(plans)) * len(config.folds.selected)
    print(f"[plan] {', '.join(plans)}: {len(unique_specs(plans))} specs, {cells} runs")


if __name__ == "__main__":
    run_stage(main)
