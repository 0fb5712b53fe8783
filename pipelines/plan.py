"""DVC stage `plan`: compile params.yaml into one plan file per strategy and per search."""

from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.experiments.plan import unique_specs
from bus_mlops.experiments.plan_files import write_plans
from bus_mlops.experiments.premium_plan import premium_plans
from bus_mlops.files import write_json
from bus_mlops.paths import PLAN, SEARCH
from bus_mlops.promotion.prerequisites import nothing_to_judge


def main(config: Config) -> None:
    planned = write_plans(config, PLAN)
    plans = planned.plans
    specs = unique_specs(plans)
    cells = sum(len(config.folds_of(spec.cohort)) for spec in specs)
    named = ", ".join(name for name, plan in plans.items() if plan.rows)
    print(f"[plan] {named}: {len(specs)} specs, {cells} runs")
    leaking = premium_plans(config.leak_premium, plans)
    if leaking:
        cells = sum(len(plan.folds) for plan in leaking for _ in plan.unique_specs())
        print(f"[plan] leak premium: {sum(len(plan.rows) for plan in leaking)} rows, {cells} runs on image-level folds")
    if config.folds.locked:
        print(f"[plan] {config.folds.locked:.0%} of the cases are locked: no run of these sees them")
    if config.external:
        print(f"[plan] external: {', '.join(config.external)}: no run of these sees an image of them")
    # The report depends on the folder of the searches, which is there also where nothing is searched.
    write_json(SEARCH / "searches.json", list(config.searches))
    for search in planned.searches.values():
        print(f"[plan] {search.explanation}")
    for row in planned.left_out:
        print(f"[plan] {row.sentence}")
    if reason := nothing_to_judge(config, plans):
        print(f"[plan] {reason}")


if __name__ == "__main__":
    run_stage(main)
