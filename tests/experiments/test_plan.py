"""Plans: rows beside the paper's, each spec once, files that a stage can depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import Augmentation, Config, CrossEntropy, Focal
from bus_mlops.errors import ConfigError, DatasetError, NetworkError
from bus_mlops.evaluation.paper.published import PAPER_TABLES, paper_table
from bus_mlops.experiments.paper_gap import left_to_paper
from bus_mlops.experiments.plan import StrategyPlan, make_plans, unique_specs
from bus_mlops.experiments.plan_files import input_sizes, read_plan, write_plans
from bus_mlops.models.zoo import NETWORKS
from bus_mlops.project import parse_config


@pytest.fixture(scope="module")
def paper() -> Config:
    return parse_config(yaml.safe_load(profiles.text("paper")))


def test_the_papers_grid_counts_by_hand(paper):
    """The counts of the tables of the paper.

    Seven classifiers: Table 4 has S and TL, 14 specs. Table 5's No Aug is TL, Aug is new: 7, and six changes
    alone: 42. Table 6's BCE is Aug; four other weights and nine focal pairs: 7 x 13 = 91. Table 7's ADAM is
    Table 6's chosen weight, SGD and NADAM are new: 14. Table 8: five networks, Single and Multi: 10. Table 9: four,
    and ESTAN: 5. Tuned are 7 classifiers twice, the five networks of Table 8, MobileNet and MT-ESTAN twice, each
    from a row of another table. 14 + 7 + 42 + 91 + 14 = 168, each on
    five folds, and 10 + 5 = 15 of candidates and their rivals, each with three seeds: 168 + 3 x 15 = 213.
    """
    plans = make_plans(paper)
    assert {name: len(plan.rows) for name, plan in plans.items()} == {
        "transfer_learning": 14,
        "augmentation": 7 * 8,
        "losses": 7 * 14,
        "optimizers": 21,
        "multitask": 10,
        "approaches": 5,
        "tuned-weighted_cross_entropy": 7,
        "tuned-focal": 7,
        "tuned-multitask": 5,
        "tuned-mt_estan_loss": 1,
        "tuned-head": 1,
        "tuned-width": 1,
    }
    assert all(len(plan.unique_specs()) == len(plan.rows) * len(plan.seeds) for plan in plans.values())
    assert len(unique_specs(plans)) == 213
    assert sum(len(paper.folds_of(spec.cohort)) for spec in unique_specs(plans)) == 1065


def test_seeds_multiply_the_cells_and_not_the_rows(demo_values):
    demo_values["strategy_settings"]["approaches"]["seeds"] = 3
    plans = make_plans(parse_config(demo_values))
    approaches, tuned = plans["approaches"], plans["tuned-mt_estan_loss"]
    assert approaches.seeds == tuned.seeds == (2021, 2022, 2023)
    assert plans["multitask"].seeds == (2021,)
    assert len(approaches.unique_specs()) == 3 * len(approaches.rows)
    specs = tuned.specs(tuned.rows[0], 1)
    assert [spec.seed for spec in specs] == [2021, 2022, 2023]
    assert {spec.model_copy(update={"seed": 0}).model_dump_json() for spec in specs} == {
        tuned.rows[0].spec.model_copy(update={"seed": 0}).model_dump_json()
    }


def test_a_row_may_be_trained_otherwise_on_each_fold(demo_values):
    demo_values["strategy_settings"]["approaches"]["seeds"] = 2
    plan = make_plans(parse_config(demo_values))["approaches"]
    row = plan.rows[0]
    other = row.spec.model_copy(update={"training": row.spec.training.model_copy(update={"dropout": 0.1})})
    first, *rest = plan.folds
    tuned = plan.model_copy(update={"rows": (row.model_copy(update={"per_fold": {first: other}}),)})
    assert [(spec.training.dropout, spec.seed, folds) for spec, folds in tuned.trainings(tuned.rows[0])] == [
        (0.1, 2021, [first]),
        (row.spec.training.dropout, 2021, rest),
        (0.1, 2022, [first]),
        (row.spec.training.dropout, 2022, rest),
    ]
    assert len(tuned.unique_specs()) == 4
    assert StrategyPlan.model_validate_json(tuned.model_dump_json()) == tuned
    same = tuned.rows[0].model_copy(update={"per_fold": dict.fromkeys(plan.folds, row.spec)})
    assert tuned.trainings(same) == plan.trainings(row)


def test_every_published_row_stands_beside_exactly_one_of_ours(paper):
    plans = make_plans(paper)
    ours = [
        (row.paper.table, row.paper.model, row.paper.variant)
        for name, plan in plans.items()
        for row in plan.rows
        if row.paper is not None and not name.startswith("tuned-")
    ]
    assert len(ours) == len(set(ours)) == 84
    assert set(ours) == {(table, *key) for table in PAPER_TABLES for key in paper_table(table)}


def test_rows_have_distinct_names_within_a_strategy():
    for name in profiles.NAMES:
        for plan in make_plans(parse_config(yaml.safe_load(profiles.text(name)))).values():
            names = [(row.model, row.variant) for row in plan.rows]
            assert len(set(names)) == len(names)


def test_repeated_blocks_of_the_paper_are_trained_once(paper):
    """Table 4's TL is Table 5's No Aug; Table 5's Aug is Table 6's BCE; Table 6's chosen WBCE is Table 7's ADAM."""
    plans = make_plans(paper)

    def fingerprints(strategy: str, variant: str) -> dict[str, str]:
        return {
            row.model: row.spec.fingerprint("data", "folds")
            for row in plans[strategy].rows
            if row.variant == variant or (variant == "chosen" and row.paper and row.family == "WBCE")
        }

    assert len(fingerprints("transfer_learning", "TL")) == 7
    assert fingerprints("transfer_learning", "TL") == fingerprints("augmentation", "No Aug")
    assert fingerprints("augmentation", "Aug") == fingerprints("losses", "BCE")
    assert fingerprints("losses", "chosen") == fingerprints("optimizers", "ADAM")


def test_losses_come_in_families_with_the_papers_row_at_its_choice(paper):
    rows = [row for row in make_plans(paper)["losses"].rows if row.model == "DenseNet121"]
    assert [row.family for row in rows] == ["BCE"] + 4 * ["WBCE"] + 9 * ["Focal"]
    printed = {row.family: row.variant for row in rows if row.paper}
    assert printed == {"BCE": "BCE", "WBCE": "WBCE(w_z=4)", "Focal": "Focal(gamma=3,alpha=0.8)"}
    losses = [row.spec.training.loss for row in rows[5:]]
    assert losses == [Focal(gamma=gamma, alpha=alpha) for gamma in (2, 3, 4) for alpha in (0.25, 0.5, 0.8)]


def test_single_augmentations_change_one_thing_each(paper):
    rows = [row for row in make_plans(paper)["augmentation"].rows if row.model == "VGG16"]
    changed = [[name for name, amount in row.spec.training.augmentation if amount] for row in rows if row.paper is None]
    assert changed == [[name] for name in Augmentation.model_fields]
    assert [row.variant for row in rows][-2:] == ["Shear 20 degrees", "Rotation 20 degrees"]


def test_single_and_multi_differ_in_the_decoder_and_the_loss_only(paper):
    single, multi = make_plans(paper)["multitask"].rows[:2]
    assert (single.spec.network, multi.spec.network) == ("mobilenet", "mobilenet_multitask")
    assert single.spec.cohort == multi.spec.cohort == ("busi", "busis")
    assert single.spec.training.epochs == 70  # as the multitask network, not as the classifier of Tables 4 to 7
    assert single.spec.training.loss.classification_weight == 1
    assert multi.spec.training.loss.classification_weight == 1.5
    loss = multi.spec.training.loss
    assert single.spec.training.model_copy(update={"loss": loss}) == multi.spec.training


@pytest.mark.parametrize(
    ("strategy", "model", "size", "scaling", "epochs", "dropout", "loss"),
    [
        ("losses", "VGG16", 224, "raw255", 50, 0.3, (1, 1)),
        ("losses", "Xception", 299, "raw255", 50, 0.3, (1, 1)),
        ("approaches", "SHA-MTL", 224, "unit", 70, 0.5, (1, 1)),
        ("approaches", "Vakanski", 256, "unit", 70, 0.25, (0.2, 1)),
        ("approaches", "EMT-Net", 224, "unit", 70, 0.5, (3, 3)),
        ("approaches", "MT-ESTAN (resnet50)", 224, "unit", 70, 0.5, (3, 3)),
        ("approaches", "ESTAN", 256, "unit", 70, 0.3, None),
    ],
)
def test_the_papers_protocol(paper, strategy, model, size, scaling, epochs, dropout, loss):
    training = next(row.spec.training for row in make_plans(paper)[strategy].rows if row.model == model)
    assert (training.input_size, training.scaling, training.epochs) == (size, scaling, epochs)
    assert (training.dropout, training.batch_size) == (dropout, 32)
    assert (training.optimizer.name, training.optimizer.learning_rate) == ("adam", 1e-5)
    assert training.augmentation == paper.training.augmentation
    if loss is not None:
        classification, positive = loss
        mask = training.loss.mask_weight
        expected = CrossEntropy(classification_weight=classification, positive_weight=positive, mask_weight=mask)
        assert training.loss == expected


def test_approaches_are_the_published_networks_and_one_that_only_segments(paper):
    rows = {row.spec.network: row for row in make_plans(paper)["approaches"].rows}
    assert set(rows) == {"sha_mtl", "vakanski", "emt_net", "mt_estan", "estan"}
    assert rows["sha_mtl"].paper is not None
    assert rows["sha_mtl"].paper.model == "Zhang et al. [35]"
    assert (rows["estan"].variant, rows["estan"].paper) == ("Mask only", None)
    assert rows["vakanski"].variant == "Multi"  # never had ImageNet weights, in the paper neither


def test_a_multitask_network_without_a_classifier_is_an_approach(monkeypatch, demo_values):
    monkeypatch.setitem(NETWORKS, "my_net", replace(NETWORKS["mt_estan"], name="my_net", label="Not In The Paper"))
    demo_values["networks"]["my_net"] = {}
    plans = make_plans(parse_config(demo_values))
    assert [row.paper for row in plans["approaches"].rows if row.spec.network == "my_net"] == [None]
    assert "my_net" not in {row.spec.network for row in plans["multitask"].rows}


def test_a_classifier_without_pretrained_weights_has_no_transfer_learning(monkeypatch, demo_values):
    own = replace(NETWORKS["mobilenet"], name="my_net", label="Mine", backbone="")
    monkeypatch.setitem(NETWORKS, "my_net", own)
    demo_values["networks"]["my_net"] = {"scaling": "unit"}
    demo_values["strategy_settings"]["transfer_learning"] = {"weights": ["random", "imagenet"]}
    rows = make_plans(parse_config(demo_values))["transfer_learning"].rows
    assert [row.variant for row in rows if row.model == "Mine"] == ["S"]
    assert [row.variant for row in rows if row.model == "MobileNet"] == ["S", "TL"]


def test_settings_restrict_networks_and_variants(demo_values):
    demo_values["networks"]["vgg16"] = {}
    demo_values["strategy_settings"]["losses"] = {
        "networks": ["vgg16"],
        "positive_weights": [2],
        "gammas": [],
        "alphas": [0.5],
    }
    plans = make_plans(parse_config(demo_values))
    assert [(row.model, row.variant) for row in plans["losses"].rows] == [
        ("VGG16", "BCE, from scratch"),
        ("VGG16", "WBCE(w_z=2), from scratch"),
    ]
    assert "VGG16" in {row.model for row in plans["transfer_learning"].rows}


@pytest.mark.parametrize(
    ("strategy", "network", "message"),
    [
        ("losses", "mt_estan", r"strategy_settings.losses.networks must be classifiers .* but names 'mt_estan'"),
        ("multitask", "mobilenet", r"strategy_settings.multitask.networks must be multitask forms of classifiers"),
        ("approaches", "mobilenet_multitask", r"strategy_settings.approaches.networks must be"),
    ],
)
def test_a_network_that_does_not_fit_its_strategy_is_named(demo_values, strategy, network, message):
    demo_values["strategy_settings"][strategy] = {"networks": [network]}
    with pytest.raises(ConfigError, match=message):
        make_plans(parse_config(demo_values))


def test_a_strategy_without_a_network_says_what_it_needs(demo_values):
    del demo_values["networks"]["mobilenet_multitask"]
    with pytest.raises(ConfigError, match="the strategy multitask needs multitask forms of classifiers"):
        make_plans(parse_config(demo_values))


def test_rows_from_scratch_say_so_where_the_paper_starts_from_imagenet(demo):
    plans = make_plans(demo)
    assert all("from scratch" in row.variant for row in plans["multitask"].rows)
    assert {row.variant for row in plans["transfer_learning"].rows} == {"S"}
    assert {row.spec.network for row in plans["approaches"].rows if "from scratch" not in row.variant} == {
        "vakanski",
        "estan",
    }


def test_the_demo_shows_every_strategy_and_every_published_approach(demo, paper):
    plans, complete = make_plans(demo), make_plans(paper)
    assert {*demo.strategies} == {*paper.strategies} <= set(plans)
    assert {*demo.searches} == {"weighted_cross_entropy", "focal", "mt_estan_loss"} < {*paper.searches}
    assert {row.spec.network for row in plans["approaches"].rows} == {
        row.spec.network for row in complete["approaches"].rows
    }


def test_what_a_profile_leaves_to_the_paper_is_named(demo, paper):
    left = left_to_paper(demo, paper)
    assert left[0] == "DenseNet121, ResNet50, VGG16, Xception, InceptionV3 as classifiers"
    assert left[1] == "EfficientNetB0, DenseNet121, ResNet50, VGG16 as multitask networks"
    assert left[2] == "the searches multitask, head, width"
    assert "5 of 98 rows of losses" in left[-1]
    assert left_to_paper(paper, paper) == []


def test_plans_survive_the_disk(demo, tmp_path):
    plans = write_plans(demo, tmp_path).plans
    assert read_plan(tmp_path, "losses") == plans["losses"]
    assert input_sizes(plans, {}) == [32, 64]
    with pytest.raises(DatasetError, match="no plan 'magic'"):
        read_plan(tmp_path, "magic")
    path = tmp_path / "losses.json"
    path.write_text(path.read_text().replace('"epochs"', '"rounds"'))
    with pytest.raises(DatasetError, match=r"losses.json is of another version .*dvc repro --force plan"):
        read_plan(tmp_path, "losses")


def test_a_changed_parameter_changes_only_the_plans_it_touches(demo_values, tmp_path):
    write_plans(parse_config(demo_values), tmp_path / "a")

    def unchanged() -> set[str]:
        write_plans(parse_config(demo_values), tmp_path / "b")
        return {p.stem for p in (tmp_path / "a").iterdir() if p.read_text() == (tmp_path / "b" / p.name).read_text()}

    every = {p.stem for p in (tmp_path / "a").iterdir()}
    demo_values["networks"]["mt_estan"]["loss"]["positive_weight"] = 2
    assert every - unchanged() == {"approaches", "tuned-mt_estan_loss", "search-mt_estan_loss"}
    demo_values["networks"]["mt_estan"]["loss"]["positive_weight"] = 3
    demo_values["strategy_settings"]["losses"]["positive_weights"] = [3]
    assert every - unchanged() == {"losses"}


def test_unknown_networks_options_and_sizes_are_named(demo_values):
    demo_values["networks"]["resnet99"] = {}
    with pytest.raises(NetworkError, match="resnet99"):
        make_plans(parse_config(demo_values))
    del demo_values["networks"]["resnet99"]
    demo_values["networks"]["mt_estan"]["options"]["widht"] = 1
    with pytest.raises(NetworkError, match="widht"):
        make_plans(parse_config(demo_values))
    del demo_values["networks"]["mt_estan"]["options"]["widht"]
    demo_values["networks"]["mt_estan"]["input_size"] = 100
    with pytest.raises(NetworkError, match="input_size of mt_estan must be a multiple of 32"):
        make_plans(parse_config(demo_values))


def test_a_network_without_a_pretrained_part_cannot_start_from_imagenet(demo_values):
    demo_values["networks"]["estan"]["weights"] = "imagenet"
    with pytest.raises(NetworkError, match="weights of estan cannot be imagenet"):
        make_plans(parse_config(demo_values))
