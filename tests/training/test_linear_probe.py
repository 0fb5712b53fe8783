"""Linear probes: features once, the saved network answers as the run recorded, and what cannot be is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_cells import SMALL, make_data, make_spec

from bus_mlops.errors import TrainingError
from bus_mlops.models import zoo
from bus_mlops.spec import RunSpec
from bus_mlops.training.fit import CellData
from bus_mlops.training.linear_probe import ProbeProgram, fit_probe, program_of
from bus_mlops.training.program import Program
from bus_mlops.training.state import EpochLog

COUNT = 60
DATA = make_data(COUNT, 32)
ROWS = np.arange(COUNT)
CELL = CellData(DATA.images, DATA.labels, ROWS[:40], ROWS[40:50])
SOURCES = (ROWS[:25], ROWS[25:])


def small_probe(*, input_size: int, scaling: str, dropout: float) -> Any:
    """One convolution that stays as it is."""
    import keras

    from bus_mlops.models.blocks import malignancy_head

    image = keras.Input((input_size, input_size, 3), name="image")
    x = keras.layers.Conv2D(8, 5, strides=4, activation="relu", name="only", trainable=False)(image)
    pooled = keras.layers.GlobalAveragePooling2D(name="class_pool")(x)
    return keras.Model(image, {"malignancy": malignancy_head(pooled, (), ())})


@pytest.fixture(scope="module", autouse=True)
def _zoo(_small_network: None) -> Iterator[None]:
    name = "small_probe"
    zoo.register(replace(SMALL, name=name, builder=f"{__name__}:{name}", probe=True, since_the_paper=True))
    yield
    zoo.NETWORKS.forget(__name__)


def spec_of(**training: Any) -> RunSpec:
    small = make_spec("small", **{"weights": "imagenet", "epochs": 1, **training})
    return small.model_copy(update={"network": "small_probe"})


@pytest.fixture(scope="module")
def program() -> ProbeProgram:
    """Its pretrained weights, of which the small network has none, are the random ones of the cell."""
    found = program_of(spec_of(), None)
    assert isinstance(found, ProbeProgram)
    found._pretrained = {"imagenet": {"nothing": np.zeros(1)}}
    return found


def encodings(program: ProbeProgram, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the number of images of each batch that goes through the encoder from now on."""
    seen: list[int] = []
    step = program._encode_step

    def counted(images: np.ndarray) -> Any:
        seen.append(len(images))
        return step(images)

    monkeypatch.setattr(program, "_encode_step", counted)
    return seen


def test_the_saved_network_answers_as_was_recorded(program, tmp_path):
    import keras

    logs: list[EpochLog] = []
    result = fit_probe(program, spec_of(), CELL, seed=3, sources=SOURCES, on_epoch=logs.append)
    assert [log.epoch for log in logs] == [1] == [result.best_epoch]
    assert result.chosen["inverse_penalty"] > 0
    assert result.history[0]["validation_roc_auc"] > 0.9  # a disc is dark or bright
    recorded = program.predict(DATA.images, ROWS).probability
    right = (recorded >= 0.5) == DATA.labels
    assert right[:40].mean() > 0.9
    program.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    colour = np.repeat(DATA.images[..., None], 3, axis=-1).astype(np.float32)
    np.testing.assert_allclose(np.asarray(loaded(colour)["malignancy"])[:, 0], recorded, atol=1e-5)
    program.load(tmp_path / "model.keras")  # forgets what it knew
    np.testing.assert_allclose(program.predict(DATA.images, ROWS).probability, recorded, atol=1e-5)


def test_features_are_computed_once_for_all_folds_and_kept_by_what_they_follow_from(program, tmp_path, monkeypatch):
    program._known = {}
    seen = encodings(program, monkeypatch)
    first = fit_probe(program, spec_of(), CELL, seed=3, sources=SOURCES, folder=tmp_path)
    assert sum(seen) == COUNT
    other_fold = replace(CELL, train=ROWS[20:], validation=ROWS[:20])
    fit_probe(program, spec_of(), other_fold, seed=3, sources=SOURCES, folder=tmp_path)
    program.predict(DATA.images, ROWS)
    assert sum(seen) == COUNT
    program._known = {}  # as in another process
    again = fit_probe(program, spec_of(), CELL, seed=3, sources=SOURCES, folder=tmp_path)
    assert (sum(seen), again.best_validation_loss) == (COUNT, first.best_validation_loss)
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(SOURCES)

    files[0].write_bytes(files[0].read_bytes()[:100])  # a damaged file is computed again
    program._known = {}
    fit_probe(program, spec_of(), CELL, seed=3, sources=SOURCES, folder=tmp_path)
    assert sum(seen) in (COUNT + 25, COUNT + 35)
    seen.clear()
    changed = replace(CELL, images=np.roll(DATA.images, 1, axis=1))  # other images: a shift of one pixel
    program._known = {}
    fit_probe(program, spec_of(), changed, seed=3, sources=SOURCES, folder=tmp_path)
    assert sum(seen) == COUNT
    fit_probe(program, spec_of(), CELL, seed=4, sources=SOURCES, folder=tmp_path)  # other weights
    assert sum(seen) == 2 * COUNT
    assert len(list(tmp_path.iterdir())) == 3 * len(SOURCES)


def test_random_features_differ_from_cell_to_cell_and_are_not_kept(program, tmp_path):
    results = [
        fit_probe(program, spec_of(weights="random"), CELL, seed=seed, sources=SOURCES, folder=tmp_path)
        for seed in (3, 4, 3)
    ]
    losses = [result.best_validation_loss for result in results]
    assert losses[0] == losses[2] != losses[1]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_trained_is_refused(program):
    with pytest.raises(TrainingError, match=r"chosen on the validation part.*package.members"):
        fit_probe(program, spec_of(), replace(CELL, validation=None), seed=1, sources=SOURCES)
    with pytest.raises(TrainingError, match="validation part of small_probe is empty"):
        fit_probe(program, spec_of(), replace(CELL, validation=ROWS[:0]), seed=1, sources=SOURCES)


def test_other_networks_have_their_program(tmp_path: Path):
    assert type(program_of(make_spec("small"), tmp_path)) is Program
