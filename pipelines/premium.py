"""DVC stage `premium`: train the rows of `leak_premium` on image-level folds too, and collect their predictions."""

from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.experiments.leak_premium import train_on_leaking_folds
from bus_mlops.experiments.plan_files import read_plan
from bus_mlops.experiments.premium_plan import premium_plans
from bus_mlops.paths import FOLDS, PLAN, PREMIUM


def main(config: Config) -> None:
    asked = config.leak_premium
    plans = premium_plans(asked, {name: read_plan(PLAN, name) for name in config.strategies} if asked else {})
    if not plans:
        print("[premium] skipped: leak_premium in params.yaml names no row")
    train_on_leaking_folds(config, plans, FOLDS / "folds.csv", PREMIUM)


if __name__ == "__main__":
    run_stage(main)
