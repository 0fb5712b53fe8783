"""The files of tests that take longest, with which the workers of pytest-xdist begin."""

from __future__ import annotations

# The longest first: in the end no worker waits for another's.
LONG = (
    "test_pipeline.py",
    "test_faults.py",
    "test_ray_engine.py",
    "test_classifiers.py",
    "test_weights.py",
    "test_published.py",
    "test_zoo.py",
    "test_generic_multitask.py",
    "test_program.py",
    "test_promote.py",
    "test_tried_cells.py",
    "test_partial_pipelines.py",
    "test_external_cohorts.py",
    "test_registry.py",
    "test_own_candidate.py",
    "test_runner.py",
    "test_share_data.py",
    "test_checkpoint.py",
    "test_choices.py",
    "test_near_duplicates.py",
    "test_changes.py",
)


def turn(name: str) -> int:
    """When a file is run: the long ones in their order, then all others."""
    return LONG.index(name) if name in LONG else len(LONG)
