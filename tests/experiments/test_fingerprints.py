"""What the ledger holds stays found: the fingerprints of whole profiles are those that they were."""

import json
from pathlib import Path

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.experiments.plan import make_plans
from bus_mlops.experiments.search_plan import make_search_plans
from bus_mlops.project import parse_config

RECORDED = json.loads(Path(__file__).with_name("fingerprints.json").read_text())
DIGESTS = "0" * 64, "1" * 64


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_no_fingerprint_of_a_profile_changes(profile):
    """A change here retrains what others have trained: raise NUMERICS_VERSION and say why, or undo it."""
    config = parse_config(yaml.safe_load(profiles.text(profile)), profile)
    found = {
        name: {
            f"{row.model} | {row.variant}": spec.fingerprint(*DIGESTS)
            for row in plan.rows
            for spec, _ in plan.trainings(row)
            if spec.seed == config.seed  # further seeds add specs and leave these as they are
        }
        for name, plan in make_plans(config).items()
        if name in config.strategies
    }
    found["first trials"] = {
        f"{name} | {start.network}": plan.space(start).spec(start.first).fingerprint(*DIGESTS)
        for name, plan in make_search_plans(config).items()
        for start in plan.networks
    }
    assert found == RECORDED[profile]
