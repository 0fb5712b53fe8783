"""How engines share out cells; training through them is tested in test_runner.py and test_ray_engine.py."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st
from projects import small_profile

from bus_mlops import profiles
from bus_mlops.config import Config
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.engines.groups import WORTH_COMPILING, by_program, choose, cost, split
from bus_mlops.experiments.strategies import make_spec
from bus_mlops.project import parse_config

DEMO = parse_config(small_profile())


def cells(config: Config, network: str, count: int) -> list[Cell]:
    spec = make_spec(config, network, "multitask")
    return [Cell(spec, fold, network, "parent", network, "data", "folds") for fold in range(1, count + 1)]


def test_a_worker_goes_on_with_its_own_program(demo):
    queue = cells(demo, "mt_estan", 2) + cells(demo, "mobilenet", 2)
    key = queue[-1].spec.program_key()
    chosen = choose(queue, key, {key})
    assert chosen is not None
    assert chosen.spec.network == "mobilenet"


def test_a_fresh_worker_takes_the_longest_program_that_nobody_is_at(demo):
    queue = cells(demo, "mobilenet", 3) + cells(demo, "mt_estan", 3)
    first = choose(queue, "", set())
    assert first is not None
    assert first.spec.network == "mt_estan"
    second = choose(queue, "", {first.spec.program_key()})
    assert second is not None
    assert second.spec.network == "mobilenet"


def test_a_worker_joins_a_long_queue_but_does_not_compile_for_a_short_one(demo):
    long, short = cells(demo, "mt_estan", 2), cells(demo, "mobilenet", 1)
    for queue, joins in ((long, True), (short, False), (short * 8, True)):
        key = queue[0].spec.program_key()
        assert (choose(queue, "another", {key}) is not None) == joins


def test_the_longest_has_the_most_multiply_accumulates():
    paper = parse_config(yaml.safe_load(profiles.text("paper")))
    names = ["mobilenet", "densenet121", "vgg16"]  # all at 224 px for 50 epochs
    groups = split([cell for name in names for cell in cells(paper, name, 5)], slots=1)
    assert [group[0].spec.network for group in groups] == ["vgg16", "densenet121", "mobilenet"]
    stepped = paper.networks["mobilenet"].model_copy(update={"steps_per_epoch": 640})  # 20 passes of 1,000 images
    often = paper.model_copy(update={"networks": {"mobilenet": stepped}})
    assert cost(cells(often, "mobilenet", 1)) == 20 * cost(cells(paper, "mobilenet", 1))
    full = paper.networks["mt_estan"].model_copy(update={"options": {"width": 1.0}})
    narrow = full.model_copy(update={"options": {"width": 0.25}})
    wide_cost, narrow_cost = (
        cost(cells(paper.model_copy(update={"networks": {"mt_estan": each}}), "mt_estan", 1)) for each in (full, narrow)
    )
    assert wide_cost > 4 * narrow_cost


def test_seeds_depend_on_seed_and_fold_only(demo):
    a, b = cells(demo, "mobilenet", 2), cells(demo, "mt_estan", 2)
    assert a[0].seed == b[0].seed
    assert a[0].seed != a[1].seed
    assert 0 <= a[0].seed < 2**31


@given(counts=st.lists(st.integers(0, 12), min_size=2, max_size=2), slots=st.integers(1, 16))
def test_groups_are_of_one_program_hold_every_cell_once_and_come_longest_first(counts, slots):
    queue = [cell for name, n in zip(("mobilenet", "mt_estan"), counts, strict=True) for cell in cells(DEMO, name, n)]
    groups = split(queue, slots)
    assert sorted(cell.key for group in groups for cell in group) == sorted(cell.key for cell in queue)
    assert all(len(by_program(group)) == 1 for group in groups)
    costs = [cost(group) for group in groups]
    assert costs == sorted(costs, reverse=True)


def test_a_long_program_is_divided_and_a_short_one_is_not(demo):
    long, short = cells(demo, "mt_estan", 5), cells(demo, "mobilenet", 1)
    assert cost(long) > 4 * WORTH_COMPILING > WORTH_COMPILING > cost(short)
    assert sorted(len(group) for group in split(long + short, 4)) == [1, 1, 1, 1, 2]
    assert sorted(len(group) for group in split(long + short, 1)) == [1, 5]
    assert len(split(cells(demo, "mobilenet", 2), 16)) == 1
