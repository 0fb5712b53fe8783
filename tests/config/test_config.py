"""params.yaml: whole profiles are valid, and every mistake is named with its remedy."""

from __future__ import annotations

import pytest
import yaml

from bus_mlops import profiles
from bus_mlops.config import Adam, CrossEntropy
from bus_mlops.errors import ConfigError
from bus_mlops.experiments.plan import make_plans
from bus_mlops.project import load_config, parse_config


@pytest.mark.parametrize("name", profiles.NAMES)
def test_profiles_are_valid_and_explain_themselves(name):
    config = parse_config(yaml.safe_load(profiles.text(name)))
    assert config.profile == name
    assert len(profiles.explanation(name)) > 40


def test_params_yaml_of_the_project_is_the_demo_profile(request):
    assert (request.config.rootpath / "params.yaml").read_text() == profiles.text("demo")


def test_unknown_key_names_its_neighbours(demo_values):
    demo_values["training"]["epoch"] = 3
    with pytest.raises(ConfigError, match=r"unknown key 'training.epoch': did you mean 'epochs'\?.*batch_size"):
        parse_config(demo_values)


def test_a_former_key_is_told_its_present_name(demo_values):
    demo_values["quality"] = demo_values.pop("audit")
    with pytest.raises(ConfigError, match=r"unknown key 'quality': did you mean 'audit'\?"):
        parse_config(demo_values)


def test_unknown_key_inside_a_network(demo_values):
    demo_values["networks"]["mobilenet"]["inputsize"] = 64
    with pytest.raises(ConfigError, match=r"'networks.mobilenet.inputsize': did you mean 'input_size'"):
        parse_config(demo_values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.loss", {"positive_wieght": 3}, "training.loss.positive_wieght': did you mean 'positive_weight'?"),
        (
            "training.loss",
            {"kind": "focal", "gama": 3},
            "loss.gama': did you mean 'gamma'? known here: alpha, ",
        ),
        (
            "training.loss",
            {"gamma": 3},
            "training.loss.gamma is for training.loss.kind focal, but kind is cross_entropy",
        ),
        (
            "training.loss",
            {"kind": "focal", "positive_weight": 3},
            "training.loss.positive_weight is for training.loss.kind cross_entropy, but kind is focal",
        ),
        (
            "networks.mobilenet.loss",
            {"alpha": 0.3},
            "networks.mobilenet.loss.alpha is for networks.mobilenet.loss.kind focal, but kind is cross_entropy",
        ),
        ("training.loss", {"kind": "focal", "alpha": 3}, "training.loss.alpha = 3: Input should be less than 1"),
        ("training.loss", {"kind": "huber"}, "{'kind': 'huber'}: kind must be one of cross_entropy, focal"),
        ("tracking.studies", "sqlite:///optuna.db", "must be postgresql+psycopg://USER@HOST/DATABASE, or null"),
        ("training.loss", {"kind": ["focal"]}, "kind must be one of cross_entropy, focal"),
        ("training.loss", 3, "training.loss = 3: Input should be a valid dictionary"),
        (
            "training.optimizer",
            {"name": "adam", "momentum": 0.9},
            "training.optimizer.momentum is for training.optimizer.name sgd, but name is adam",
        ),
        ("training.optimizer", {"name": "sgd", "momenum": 0.9}, "optimizer.momenum': did you mean 'momentum'?"),
        (
            "strategy_settings.optimizers.optimizers",
            [{"name": "sgd"}, {"momentum": 0.9}],
            "optimizers.1.momentum is for strategy_settings.optimizers.optimizers.1.name sgd, but name is adam",
        ),
        ("engine", {"num_gpus": 1}, "engine.num_gpus is for engine.kind ray, but kind is local"),
        ("engine", {"kind": "ray", "adress": "auto"}, "unknown key 'engine.adress': did you mean 'address'?"),
        ("engine", {"worker": 2}, "unknown key 'engine.worker': did you mean 'workers'?"),
        ("engine", {"kind": "ray", "num_gpus": 1.5}, "engine.num_gpus must be whole, or a part of one, but got 1.5"),
    ],
)
def test_sections_of_several_kinds_take_the_keys_of_their_own(demo_values, path, value, message):
    *sections, last = path.split(".")
    target = demo_values
    for key in sections:
        target = target[key]
    target[last] = value
    with pytest.raises(ConfigError) as caught:
        parse_config(demo_values)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "address"),
    [
        ("studies", "postgresql+psycopg://bus:secret@host/optuna"),
        ("uri", "http://bus:secret@host:5000"),
        ("uri", "mysql://host/runs?user=bus&password=secret"),
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(demo_values, key, address):
    demo_values["tracking"][key] = address
    with pytest.raises(ConfigError, match=rf"tracking\.{key} = .*\*\*\*.*must not hold a password") as caught:
        parse_config(demo_values)
    assert "secret" not in str(caught.value)


def test_a_kind_may_be_left_out(demo_values):
    demo_values["training"]["loss"] = {"positive_weight": 3}
    demo_values["training"]["optimizer"] = {"learning_rate": 0.1}
    config = parse_config(demo_values)
    assert config.training.loss == CrossEntropy(positive_weight=3)
    assert config.training.optimizer == Adam(learning_rate=0.1)


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (
            "mobilenet",
            {"loss": {"mask_weight": 1}},
            "networks.mobilenet.loss.mask_weight has no effect, since mobilenet draws",
        ),
        ("estan", {"loss": {"positive_weight": 3}}, "estan.loss has no effect, since the loss of estan is Dice alone"),
        (
            "estan",
            {"head_initializer": "he_normal"},
            "estan.head_initializer has no effect, since estan names no class",
        ),
    ],
)
def test_what_has_no_effect_is_named_when_the_network_is_planned(demo_values, network, changes, message):
    demo_values["networks"][network].update(changes)
    with pytest.raises(ConfigError, match=message):
        make_plans(parse_config(demo_values))


@pytest.mark.parametrize("network", ["mt_estan", None])
def test_a_refit_cannot_follow_a_validation_loss(demo_values, network):
    section = demo_values["networks"][network] if network else demo_values["training"]
    section["plateau"] = {}
    assert parse_config(demo_values).package.members != "refit"
    demo_values["package"] = {"members": "refit"}
    with pytest.raises(
        ConfigError, match=r"refit trains mt_estan without a validation part.* set package\.members to all"
    ):
        parse_config(demo_values)


def test_unknown_key_of_a_strategy(demo_values):
    demo_values["strategy_settings"]["losses"]["gamma"] = [2]
    with pytest.raises(ConfigError, match=r"'strategy_settings.losses.gamma': did you mean 'gammas'"):
        parse_config(demo_values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("training", "epochs"), 0, "training.epochs = 0"),
        (("training", "dropout"), "much", "training.dropout = 'much'"),
        (("training", "steps_per_epoch"), 0, "training.steps_per_epoch = 0"),
        (("networks", "mobilenet", "steps_per_epoch"), 1.5, "networks.mobilenet.steps_per_epoch = 1.5"),
        (("training", "plateau"), {"factor": 1}, "training.plateau.factor = 1: Input should be less than 1"),
        (("training", "plateau"), {"patience": 0}, "training.plateau.patience = 0"),
        (("training", "plateau"), {"minimum": -1}, "training.plateau.minimum = -1"),
        (("training", "plateau"), {"min_lr": 0}, "unknown key 'training.plateau.min_lr': did you mean 'min_delta'?"),
        (("training", "plateau"), True, "training.plateau = True: Input should be a valid dictionary"),
        (("training", "kept_epoch"), "first", "training.kept_epoch = 'first': Input should be 'best' or 'last'"),
        (("training", "head_initializer"), "zeros", "training.head_initializer = 'zeros'"),
        (("training", "validation"), 1, "training.validation = 1: Input should be less than 1"),
        (("networks", "mobilenet", "validation"), 0, "networks.mobilenet.validation = 0"),
        (("data", "kind"), "fake", "data.kind = 'fake'"),
        (("folds", "run"), [1, 9], "between 1 and 3 but got 9"),
        (("promotion", "baseline"), "vgg99", "one of champion, best, mobilenet, efficientnetb0"),
        (
            ("strategy_settings", "losses", "networks"),
            ["vgg99"],
            "strategy_settings.losses.networks must be among the networks (mobilenet, efficientnetb0",
        ),
        (("strategy_settings", "losses", "networks"), [], "strategy_settings.losses.networks"),
        (("strategy_settings", "losses", "positive_weights"), [1, 2], "positive_weights need no 1"),
        (("strategy_settings", "losses", "gammas"), [2, 2.0], "gammas must not repeat a value but got 2, 2"),
        (("strategy_settings", "losses", "alphas"), [1.5], "strategy_settings.losses.alphas.0 = 1.5"),
        (("strategy_settings", "optimizers", "optimizers"), [{}, {}], "must not name one twice but got adam, adam"),
        (("strategy_settings", "transfer_learning", "weights"), ["radiology"], "weights.0 = 'radiology'"),
        (("cohorts", "multitask"), ["hmss"], "names hmss, which has no masks"),
        (("phantom", "images"), {"busi": -1}, "phantom.images.busi must be 0 or more"),
        (("strategies",), ["magic"], "strategies.0 = 'magic'"),
        (("strategies",), [], "strategies = []: Tuple should have at least 1 item"),
        (
            ("strategies",),
            ["losses", "multitask", "losses"],
            "must not name one twice but got losses, multitask, losses",
        ),
    ],
)
def test_bad_values_are_named(demo_values, path, value, message):
    target = demo_values
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        parse_config(demo_values)
    assert message in str(caught.value)


def test_missing_key_is_named(demo_values):
    del demo_values["data"]["root"]
    with pytest.raises(ConfigError, match=r"data.root.* is missing"):
        parse_config(demo_values)


def test_a_file_from_before_there_were_searches_is_told_what_to_write(demo_values):
    del demo_values["searches"]
    with pytest.raises(ConfigError, match=r"'searches' is missing: write `searches: \{\}`"):
        parse_config(demo_values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not valid YAML"),
        (b"- 1", "must hold a mapping"),
        (b"\xff\xfe\x00", "cannot be read|not valid"),
    ],
)
def test_unreadable_files(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_missing_file_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="bus-mlops profile demo"):
        load_config()


def test_configuration_is_frozen(demo):
    with pytest.raises(ValueError, match="frozen"):
        demo.training.epochs = 3


def test_customised_profile_keeps_comments_and_takes_folders(tmp_path):
    odd = tmp_path / "a folder: odd"
    text = profiles.customised("busi", data_root=odd, weights_folder=tmp_path)
    config = parse_config(yaml.safe_load(text))
    assert config.data.root == odd
    assert config.weights_folder == tmp_path
    assert text.count("#") == profiles.text("busi").count("#")


@pytest.mark.parametrize(
    ("challengers", "message"),
    [
        (["mt_estan_loss"], "promotion.challengers names mt_estan_loss, which promotion.candidates names already"),
        (["focal"], "promotion.challengers must be approaches, or a search of mt_estan .* but got 'focal'"),
    ],
)
def test_a_challenger_is_named_like_a_candidate_and_is_none(demo_values, challengers, message):
    demo_values["promotion"]["challengers"] = challengers
    with pytest.raises(ConfigError, match=message):
        parse_config(demo_values)
