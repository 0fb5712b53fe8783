"""From trained networks to a package consumers can use, and from a package to a registered MLflow version."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

import bus_mlops
from bus_mlops.consumer.package_files import OpenedPackage, open_package, read_package, write_sums
from bus_mlops.consumer.package_format import (
    ARTIFACT,
    CARD_FILE,
    DIGEST_TAG,
    EXAMPLE_IMAGE,
    EXAMPLE_PREDICTION,
    PACKAGE_FILE,
    SBOM_FILE,
    Calibration,
    ExternalNumbers,
    JudgedNumbers,
    Member,
    Package,
)
from bus_mlops.consumer.refusal import Refusal
from bus_mlops.environment import restored
from bus_mlops.errors import ImageError, RegistryError
from bus_mlops.files import anchored, replaced_folder, write_json
from bus_mlops.packaging.card_evidence import CardEvidence
from bus_mlops.packaging.model_card import model_card
from bus_mlops.packaging.pyfunc import pyfunc_options
from bus_mlops.packaging.sbom import DataSet, bill_of_materials

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from bus_mlops.packaging.onnx_export import NetworkReader

EXAMPLE_SIDE = 96


def write_package(
    folder: Path,
    members: Sequence[Path],
    *,
    input_size: int,
    color: str,
    threshold: float,
    metadata: Mapping[str, Any],
    example_image: bytes | np.ndarray,
    calibrations: Sequence[Calibration] | None = None,
    data_sets: Iterable[DataSet] = (),
) -> Path:
    """Write the package of an ensemble.

    The folder appears when all is done; an older package in its place is replaced, anything else there is an error.

    Args:
        folder: The package.
        members: One `.keras` file a member, in the order of the folds.
        input_size: In pixels.
        color: `gray` or `rgb`.
        threshold: A probability (0-1), from which on the label is malignant; the ensemble's is the mean over the
            members, each after its own calibration.
        metadata: `name`, `phantom` (trained on synthetic images) and `trained_on`; may hold `lineage`,
            `gate` and `refusal`.
        example_image: Bytes of an image file, or uint8 0-255; stored no larger than 96 px a side, with its prediction.
        calibrations: One a member; none by default.
        data_sets: What the networks learnt from, for the bill of materials.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / PACKAGE_FILE).is_file():
        raise RegistryError(f"{folder} holds something that is not a package. Remove it or name another folder.")
    if not members:
        raise RegistryError("a package needs at least one trained network (.keras) but got none.")
    twice = [path for path, times in Counter(path.resolve() for path in members).items() if times > 1]
    if twice:
        raise RegistryError(f"{twice[0]} is given for more than one member: each fold has its own network.")
    from bus_mlops.packaging.onnx_export import NetworkReader

    read = NetworkReader()
    with replaced_folder(folder) as partial:
        exported = [
            _write_member(partial, i, path, input_size, calibration, read)
            for i, (path, calibration) in enumerate(_calibrated(members, calibrations), 1)
        ]
        outputs = {names for _, names in exported}
        if len(outputs) > 1:
            raise RegistryError(f"the members of {folder} have different outputs: {sorted(outputs)}.")
        package = _describe([m for m, _ in exported], outputs.pop(), input_size, color, threshold, metadata)
        write_json(partial / PACKAGE_FILE, package.model_dump(mode="json"))
        (partial / CARD_FILE).write_text(model_card(package), encoding="utf-8")
        _write_example(partial, package, example_image)
        write_json(partial / SBOM_FILE, bill_of_materials(package, data_sets))
        write_sums(partial)
    return folder


def complete_package(
    folder: Path, *, gate: str, judged: JudgedNumbers, evidence: CardEvidence, refusal: Refusal | None = None
) -> None:
    """Write into a finished package, and onto its card, what the gate said of it and measured of its answers.

    Args:
        folder: The package.
        gate: The verdict.
        judged: What was measured.
        evidence: What the card alone says.
        refusal: The same as in the package, with what was measured of it; as it is by default.
    """
    known = read_package(folder)
    package = known.model_copy(update={"gate": gate, "judged": judged, "refusal": refusal or known.refusal})
    write_json(folder / PACKAGE_FILE, package.model_dump(mode="json"))
    (folder / CARD_FILE).write_text(model_card(package, evidence), encoding="utf-8")
    write_sums(folder)


def add_external_numbers(folder: Path, external: Mapping[str, ExternalNumbers], evidence: CardEvidence) -> None:
    """Write into a finished package, and onto its card, what was measured of it on images that no fold touches."""
    package = read_package(folder)
    assert package.judged is not None  # noqa: S101 - a package is judged on its folds first
    judged = package.judged.model_copy(update={"external": dict(external)})
    complete_package(folder, gate=package.gate or "", judged=judged, evidence=evidence)


def log_package(
    folder: Path,
    *,
    registered_name: str,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    tracking_uri: str | None = None,
) -> ModelVersion:
    """Log a package as an MLflow model, and register a version of it.

    The version carries `tags` and the digest of SHA256SUMS.

    Args:
        folder: The package.
        registered_name: Must say so if the model was trained on phantoms.
        run_id: The run to log it in; the active one by default.
        tags: Of the version.
        tracking_uri: The store; the active one by default.

    Raises:
        RegistryError: A file of the package was changed, or the name does not say that it was trained on phantoms.
    """
    import mlflow

    opened = open_package(folder)
    package = opened.package
    if package.phantom and "phantom" not in registered_name:
        raise RegistryError(
            f"{folder} was trained on synthetic images: it cannot be registered as {registered_name!r}. "
            f"Use a name that says so, such as '{registered_name}-phantom'."
        )
    marks = {
        **(tags or {}),
        DIGEST_TAG: opened.digest,
        "phantom": str(package.phantom).lower(),
    }
    with _tracking(tracking_uri):
        active = mlflow.active_run()
        if run_id is None and active is None:
            raise RegistryError(f"no run to log {folder} in: give run_id, or call within mlflow.start_run().")
        if active is not None and run_id in (None, active.info.run_id):
            model_uri = _log_model(folder, package)
        else:
            with mlflow.start_run(run_id=run_id, nested=active is not None):
                model_uri = _log_model(folder, package)
        return mlflow.register_model(model_uri, registered_name, tags=marks)


@contextlib.contextmanager
def _tracking(uri: str | None) -> Iterator[None]:
    """Point MLflow's fluent functions at a store for a while, its registry too; they know only one a process."""
    import mlflow

    if uri is None:
        yield
        return
    previous = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    registry = mlflow.get_registry_uri()
    implied = registry in (os.environ.get("MLFLOW_REGISTRY_URI"), mlflow.get_tracking_uri())
    # MLflow writes both into the environment, for processes that it starts.
    with restored("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        mlflow.set_tracking_uri(anchored(uri))
        mlflow.set_registry_uri(anchored(uri))
        try:
            yield
        finally:
            mlflow.set_tracking_uri(previous)  # type: ignore[arg-type]  # None unsets it
            mlflow.set_registry_uri(None if implied else registry)  # type: ignore[arg-type]


def _log_model(folder: Path, package: Package) -> str:
    import mlflow

    logged = mlflow.pyfunc.log_model(name="model", artifacts={ARTIFACT: str(folder)}, **pyfunc_options(folder, package))
    return str(logged.model_uri)


def _calibrated(
    members: Sequence[Path], calibrations: Sequence[Calibration] | None
) -> Iterator[tuple[Path, Calibration]]:
    if calibrations is None:
        calibrations = [Calibration()] * len(members)
    if len(calibrations) != len(members):
        raise RegistryError(f"{len(members)} members but {len(calibrations)} calibrations: each member has its own.")
    return zip(members, calibrations, strict=True)


def _write_member(
    folder: Path,
    number: int,
    source: Path,
    input_size: int,
    calibration: Calibration,
    read: NetworkReader,
) -> tuple[Member, tuple[str, ...]]:
    """Copy one network without its compile state and export the copy; returns its entry and its outputs."""
    from bus_mlops.packaging.onnx_export import export_onnx, is_bare

    if not source.is_file():
        raise RegistryError(f"{source} is missing: the trained network of member {number}.")
    network = read(source)
    if tuple(network.input_shape[1:]) != (input_size, input_size, 3):
        raise RegistryError(f"{source} takes {network.input_shape[1:]} but the package says {input_size} px.")
    member = f"members/fold_{number}"
    keras_path, onnx_path = folder / f"{member}.keras", folder / f"{member}.onnx"
    keras_path.parent.mkdir(parents=True, exist_ok=True)
    if is_bare(source):
        shutil.copyfile(source, keras_path)
    else:
        network.save(keras_path)
        network = read(keras_path)  # what is exported is what is shipped
    difference = export_onnx(keras_path, onnx_path, network)
    entry = Member(keras=f"{member}.keras", onnx=f"{member}.onnx", calibration=calibration, max_difference=difference)
    return entry, tuple(sorted(network.output_names))


def _describe(
    members: Sequence[Member],
    outputs: tuple[str, ...],
    input_size: int,
    color: str,
    threshold: float,
    metadata: Mapping[str, Any],
) -> Package:
    values = {
        **metadata,
        "bus_mlops_version": bus_mlops.__version__,
        "members": [m.model_dump() for m in members],
        "outputs": outputs,
        "input_size": input_size,
        "color": color,
        "threshold": threshold,
    }
    try:
        return Package.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RegistryError(f"the package's metadata: {key} = {first['input']!r:.200}: {first['msg']}.") from None


def _write_example(folder: Path, package: Package, image: bytes | np.ndarray) -> None:
    """Store the example, small, and what the finished package answers to it."""
    from PIL import Image

    from bus_mlops.consumer.client import BusModel
    from bus_mlops.images.model_input import read_pixels

    try:
        small = Image.fromarray(read_pixels(image, package.color))
    except ImageError as error:
        raise RegistryError(f"the package's example: {error}") from error
    small.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    small.save(folder / EXAMPLE_IMAGE)
    networks = {member.onnx: (folder / member.onnx).read_bytes() for member in package.members}
    unfinished = OpenedPackage(folder, package, "", {}, networks)
    row = BusModel(folder, package, opened=unfinished).predict([folder / EXAMPLE_IMAGE], refuse=False)[0]
    if row.error is not None:
        raise RegistryError(f"the package cannot predict its own example: {row.error}")
    values = {
        "probability": row.probability,
        "spread": row.spread,
        "label": row.label,
        "threshold": row.threshold,
    }
    write_json(folder / EXAMPLE_PREDICTION, values)
