"""The space of a search, for engines; it lies with the plan, which checks it before anything is trained."""

from bus_mlops.experiments.space import Space

__all__ = ["Space"]
