"""A version as it was registered: every file, tag and text of it, and what differs from that now.

It is written beside the evidence when a version is registered, among the files of the record, whose digests are
parameters of the run: who can change tags, texts or artifacts cannot make them agree with it again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from bus_mlops.consumer.package_files import open_package, sha256_below
from bus_mlops.consumer.package_format import DIGEST_TAG, SIGNATURE_FILE
from bus_mlops.errors import RegistryError
from bus_mlops.files import write_json
from bus_mlops.packaging.clean_load import packaged
from bus_mlops.tracking.run_files import RunFiles

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Tag of a version: the digest of what was judged.
EVIDENCE_TAG = "evidence"
FOLDER, FILE = "registration", "registration.json"


class Registration(BaseModel):
    """`registration.json`: `files` are those of the MLflow model folder, the package among them, with their sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: str
    run: str
    source: str
    created: int
    stage: str
    description: str
    tags: dict[str, str]
    files: dict[str, str]


def record_registration(client: MlflowClient, version: ModelVersion) -> None:
    """Write down, in the record that registered it, a version as it is now; one that was written down stays.

    Raises:
        RegistryError: Its package is not the one that was registered.
    """
    if is_written_down(client, version):
        return
    files, run_id = RunFiles(client), str(version.run_id)
    found = _as_it_is(version, sha256_below(check_files(client, version)))
    with tempfile.TemporaryDirectory(prefix="bus-registration-") as folder:
        write_json(Path(folder) / FILE, found.model_dump(mode="json"))
        for name, value in files.store(run_id, Path(folder), FOLDER).items():
            client.log_param(run_id, name, value)


def is_written_down(client: MlflowClient, version: ModelVersion) -> bool:
    """Whether the record that registered a version says how it was."""
    return f"{FOLDER}/{FILE}" in RunFiles(client).digests(str(version.run_id))


def read_registration(client: MlflowClient, version: ModelVersion) -> Registration | None:
    """A version as it was registered; None for one of an earlier version of bus-mlops, which wrote none down.

    Raises:
        LedgerError: It is damaged.
    """
    files, run_id = RunFiles(client), str(version.run_id)
    if f"{FOLDER}/{FILE}" not in files.digests(run_id):
        return None
    with tempfile.TemporaryDirectory(prefix="bus-registration-") as folder:
        path = files.fetch(run_id, FOLDER, Path(folder)) / FILE
        return Registration.model_validate_json(path.read_bytes())


def differences(version: ModelVersion, written: Registration, later_tags: Mapping[str, str]) -> list[str]:
    """What differs between a version and what was registered, but for its files.

    Args:
        version: As it is now.
        written: As it was.
        later_tags: Those that decisions have added since.
    """
    now = _as_it_is(version, written.files)
    before = written.model_copy(update={"tags": {**written.tags, **later_tags}})
    found = [
        f"its {name} is {getattr(now, name)!r} and was {getattr(before, name)!r}"
        for name in ("run", "source", "created", "stage", "description")
        if getattr(now, name) != getattr(before, name)
    ]
    return found + list(_tags(now.tags, before.tags))


def changed_files(model: Path, written: Registration) -> list[str]:
    """What differs between an MLflow model folder and the one that was registered."""
    now = sha256_below(model)
    # A signature may come later, or another in its place: it is checked by itself.
    names = sorted(name for name in {*now, *written.files} if Path(name).name != SIGNATURE_FILE)
    return [
        f"{name} {'is missing' if name not in now else 'was added' if name not in written.files else 'was changed'}"
        for name in names
        if now.get(name) != written.files.get(name)
    ]


def require_as_registered(client: MlflowClient, version: ModelVersion, later_tags: Mapping[str, str]) -> None:
    """Raise a RegistryError unless a version is what was registered; one that wrote nothing down passes."""
    written = read_registration(client, version)
    if written is None:
        return
    found = differences(version, written, later_tags) + changed_files(check_files(client, version), written)
    if found:
        raise RegistryError(
            f"{version.name} version {version.version} is not what was registered: {'; '.join(found)}. Put it back, or "
            "register a new version; nothing was decided."
        )


def fetch_model(client: MlflowClient, version: ModelVersion) -> Path:
    """A version's model folder: the store's own where that is on this machine, else a copy.

    Raises:
        RegistryError: It is not there.
    """
    from mlflow.artifacts import download_artifacts

    uri = client.get_model_version_download_uri(version.name, str(version.version))
    local = uri.startswith(("file:", "/"))
    target = None if local else tempfile.mkdtemp(prefix="bus-verify-")
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=target, tracking_uri=client.tracking_uri))
    except Exception as error:  # each artifact store raises its own kind
        raise RegistryError(
            f"the files of {version.name} version {version.version} are not at {uri}: {error}. Bring them back first."
        ) from error


def check_files(client: MlflowClient, version: ModelVersion) -> Path:
    """Fetch a version's model folder and check every file of its package.

    Raises:
        RegistryError: Names what was changed.
    """
    model = fetch_model(client, version)
    opened = open_package(packaged(model), version.tags.get(DIGEST_TAG), keep=False)
    if DIGEST_TAG not in version.tags:
        raise RegistryError(
            f"{version.name} version {version.version} has lost its tag {DIGEST_TAG}, which names its package: what is "
            f"there now has {opened.digest}. If its record names the same (`bus-mlops history --json`), set the tag "
            "back."
        )
    return model


def _as_it_is(version: ModelVersion, files: Mapping[str, str]) -> Registration:
    return Registration(
        model=version.name,
        version=str(version.version),
        run=str(version.run_id),
        source=str(version.source),
        created=int(version.creation_timestamp),
        stage=str(version.current_stage),
        description=version.description or "",
        tags=dict(version.tags),
        files=dict(files),
    )


def _tags(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*now, *before}):
        if name not in now:
            yield f"its tag {name} is missing (it was {before[name]!r})"
        elif name not in before:
            yield f"its tag {name} was added ({now[name]!r})"
        elif now[name] != before[name]:
            yield f"its tag {name} is {now[name]!r} and was {before[name]!r}"
