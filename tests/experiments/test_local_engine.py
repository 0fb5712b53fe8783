"""How the local engine hands out cells; training through it is tested in test_runner.py."""

from __future__ import annotations

from bus_mlops.config import Config
from bus_mlops.experiments.cell import Cell
from bus_mlops.experiments.engines.local import _choose
from bus_mlops.experiments.strategies import make_spec


def cells(config: Config, network: str, count: int) -> list[Cell]:
    spec = make_spec(config, network, "multitask")
    return [Cell(spec, fold, network, "parent", network, "data", "folds") for fold in range(1, count + 1)]


def test_a_worker_goes_on_with_its_own_program(demo):
    queue = cells(demo, "mt_estan", 2) + cells(demo, "mobilenet", 2)
    key = queue[-1].spec.program_key()
    chosen = _choose(queue, key, {key})
    assert chosen is not None
    assert chosen.spec.network == "mobilenet"


def test_a_fresh_worker_takes_the_longest_program_that_nobody_is_at(demo):
    queue = cells(demo, "mobilenet", 3) + cells(demo, "mt_estan", 3)
    first = _choose(queue, "", set())
    assert first is not None
    assert first.spec.network == "mt_estan"
    second = _choose(queue, "", {first.spec.program_key()})
    assert second is not None
    assert second.spec.network == "mobilenet"


def test_a_worker_joins_a_long_queue_but_does_not_compile_for_a_short_one(demo):
    long, short = cells(demo, "mt_estan", 1), cells(demo, "mobilenet", 1)
    for queue, joins in ((long, True), (short, False), (short * 8, True)):
        key = queue[0].spec.program_key()
        assert (_choose(queue, "another", {key}) is not None) == joins


def test_seeds_depend_on_seed_and_fold_only(demo):
    a, b = cells(demo, "mobilenet", 2), cells(demo, "mt_estan", 2)
    assert a[0].seed == b[0].seed
    assert a[0].seed != a[1].seed
    assert 0 <= a[0].seed < 2**31
