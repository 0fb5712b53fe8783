"""Whether a plan has what a promotion needs, told before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

from bus_mlops.config import Config
from bus_mlops.experiments.plan import StrategyPlan, tuned_name
from bus_mlops.spec import RunSpec

# On the images with masks, where the candidate network is trained, these train the networks it may be compared with.
RIVAL_STRATEGIES = ("multitask", "approaches")


def nothing_to_judge(config: Config, plans: Mapping[str, StrategyPlan]) -> str | None:
    """Why the stage `promote` will have no candidate, or nothing to compare it with; None when it has both."""
    candidate = config.promotion.candidate_network
    masked = config.cohorts["multitask"]
    for name in (*config.promotion.candidates, *config.promotion.challengers):
        specs = [spec for spec in _specs(plans, strategy_of(name)) if spec.network == candidate]
        if not specs:
            return f"no promotion: its candidate would be {candidate} of {name}, which is not planned"
        if set(specs[0].cohort) != set(masked):
            return (
                f"no promotion: its candidate would be {candidate} of {name}, on images of "
                f"{', '.join(specs[0].cohort)}, and what it is compared with is trained on those of "
                f"{', '.join(masked)}: set searches.{name}.strategy to {' or '.join(RIVAL_STRATEGIES)}"
            )
    rivals = [spec.network for strategy in RIVAL_STRATEGIES for spec in _specs(plans, strategy)]
    baseline = config.promotion.baseline
    if baseline not in ("champion", "best"):
        return None if baseline in rivals else f"no promotion: its baseline {baseline} is not planned with masks"
    if any(name != candidate for name in rivals):
        return None
    until = " until there is a champion" if baseline == "champion" else ""
    return (
        f"no promotion{until}: multitask and approaches plan no other network that {candidate} could be compared with"
    )


def strategy_of(candidate: str) -> str:
    """The strategy with the row that an entry of `promotion.candidates` names: `approaches`, or `tuned-NAME`."""
    return candidate if candidate == "approaches" else tuned_name(candidate)


def _specs(plans: Mapping[str, StrategyPlan], strategy: str) -> list[RunSpec]:
    """Of the rows of a strategy that name a class."""
    rows = plans[strategy].rows if strategy in plans else ()
    return [row.spec for row in rows if row.spec.task.classifies]
