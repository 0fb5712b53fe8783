"""From `models:/name@champion`, `models:/name/3`, s3://... or a folder to a local package folder.

Needs only mlflow-skinny where the tracking server speaks HTTP; an `sqlite:` store also needs sqlalchemy.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bus_mlops.consumer.cache import Pulled, cache_folder, latest_seen, put, recall, remember_seen
from bus_mlops.consumer.package_files import parse_origin, read_origin
from bus_mlops.consumer.package_format import DIGEST_TAG, ORIGIN_FILE, Origin
from bus_mlops.consumer.signatures import SIGNATURE_TAG, authentic
from bus_mlops.consumer.standing import (
    CLAIM_TAG,
    DECISION_DIGEST,
    EXPERIMENT,
    GATE_TAG,
    Standing,
    of_version,
    unexplained_alias,
    unread,
)
from bus_mlops.consumer.trusted_keys import TrustedKeys, trusted_keys
from bus_mlops.environment import IMPATIENT, MLFLOW, settings
from bus_mlops.errors import (
    ConfigError,
    DamagedPackageError,
    RegistryError,
    StoreError,
    UntrustedError,
    store_reason,
    store_remedy,
)
from bus_mlops.files import anchored, local_path, sqlite_file, sqlite_problem

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PARAMS = Path("params.yaml")
DEFAULT_STORE = "sqlite:///mlflow.db"
FORMS = "`models:/NAME@champion`, `models:/NAME/VERSION`, `s3://BUCKET/PREFIX` or the folder of a package"
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "databricks-uc", "uc")
ELSEWHERE = "Mend it, or say where the models are with --tracking-uri or MLFLOW_TRACKING_URI."
# Somebody who moves the aliases takes a second; his decision is on record before.
TRIES, PAUSE_SECONDS = 4, 0.5
T = TypeVar("T")

_MODEL_URI = re.compile(r"^models:/+([^/@:]+)(?:@([^/@]+)|/(\d+))$")


@dataclass(frozen=True)
class Location:
    """Where a package lies on this machine, and as which version of which model it was asked for."""

    folder: Path
    name: str | None = None
    version: str | None = None
    digest: str | None = None
    standing: Standing | None = None
    """What was decided about it, as its store or its copy says; None where neither says anything."""
    decision: Mapping[str, str] | None = None
    """The signed record of the decision on this version, with the record's id; None where there is none."""

    @property
    def is_cached(self) -> bool:
        """Whether the folder is a copy, which can be fetched again."""
        return cache_folder() in self.folder.parents


@settings(MLFLOW)
def resolve(uri: str, tracking_uri: str | None = None, *, fresh: bool = False) -> Location:
    """Find a package, fetching it from a remote store if need be; what the package holds is not looked at.

    Where the store cannot be asked, what `bus-mlops pull` has fetched from it is used, with a warning that says
    which version and of when.

    Args:
        uri: As in `load_model`.
        tracking_uri: As in `load_model`.
        fresh: Take nothing from the cache, but ask the store and replace what is there.

    Raises:
        RegistryError: It is not there; says what there is.
    """
    if uri.startswith("s3://"):
        return _ask_or_recall("s3", uri, lambda: _from_s3(uri, fresh), fresh)
    if not uri.startswith("models:"):
        return _from_folder(uri)
    match = _MODEL_URI.match(uri)
    if match is None:
        raise RegistryError(f"model {uri!r} is not understood. Give {FORMS}.")
    store = anchored(tracking_uri or default_tracking_uri())
    return _ask_or_recall(store, uri, lambda: _from_registry(store, match[1], match[2], match[3], fresh), fresh)


@settings(MLFLOW)
def version_uri(text: str, tracking_uri: str | None = None) -> str:
    """What a person calls a version, as a URI: a bare number is one of the only model that is registered."""
    if not text.isdigit():
        return text
    store = anchored(tracking_uri or default_tracking_uri())
    client = open_registry(store)
    names = _ask(store, lambda: sorted(model.name for model in client.search_registered_models()))
    if len(names) != 1:
        there = ", ".join(names) or "none"
        raise RegistryError(f"version {text} of which model? Registered in {store}: {there}. Give {FORMS}.")
    return f"models:/{names[0]}/{text}"


def _from_folder(uri: str) -> Location:
    if not uri:  # as of a variable that is not set; Path would take it for this folder
        raise RegistryError(f"model {uri!r} is empty. Give {FORMS}.")
    folder = Path(uri).expanduser()
    if folder.is_dir():
        origin = read_origin(folder)
        return _at(folder, origin) if origin else Location(folder)
    what = "is a file" if folder.exists() else "does not exist"
    raise RegistryError(f"model {uri!r}: no such package folder ({what} in {Path.cwd()}). Give {FORMS}.")


def _from_s3(uri: str, fresh: bool) -> Location:
    from bus_mlops.consumer.s3 import fetch

    folder, said = fetch(uri, fresh=fresh)
    origin = parse_origin(said, f"{uri}/{ORIGIN_FILE}") if said is not None else None
    # The folder's name is the digest of what was listed in the bucket.
    for each in (origin, read_origin(folder)):
        if each is not None and each.digest != folder.name:
            raise DamagedPackageError(f"{uri}: its registry.json is of another package. Export the package again.")
    return _at(folder, origin) if origin else Location(folder, digest=folder.name)


def _at(folder: Path, origin: Origin) -> Location:
    return Location(folder, origin.name, origin.version, origin.digest, origin.standing, origin.decision)


def _from_registry(store: str, name: str, alias: str | None, number: str | None, fresh: bool) -> Location:
    client, keys = open_registry(store), trusted_keys()
    for left in range(TRIES - 1, -1, -1):
        version = _find(client, store, name, alias, number)
        decisions, problem = _recorded(client, store, version)
        believed = decisions if keys is None else authentic(decisions, keys)
        unexplained = unexplained_alias(alias, str(version.version), believed) if alias and not problem else ""
        if not (unexplained and left and _is_moving(client, store, name)):
            break
        time.sleep(PAUSE_SECONDS)
    own = [each for each in believed if each.get("version") == str(version.version) and each.get("package")]
    decision = own[-1] if own and SIGNATURE_TAG in own[-1] else None
    if keys is not None:
        _require_decided(store, version, believed, decision, problem or unexplained, keys)
    standing = unread(version.tags, problem) if problem else of_version(str(version.version), version.tags, believed)
    standing = standing.model_copy(update={"unexplained": unexplained})
    folder = _fetch(client, store, version, fresh)
    digest = version.tags.get(DIGEST_TAG) if decision is None else decision["package"]
    return Location(folder, name, str(version.version), digest, standing, decision)


def _require_decided(
    store: str,
    version: ModelVersion,
    believed: list[Mapping[str, str]],
    decision: Mapping[str, str] | None,
    problem: str,
    keys: TrustedKeys,
) -> None:
    """Raise unless signed decisions explain why this version is what is asked for, and none of them was taken away."""
    which = f"{version.name} version {version.version}"
    if not problem and decision is None:
        problem = "no decision on it is signed"
    when, record = latest_seen(store, version.name)
    latest = believed[-1] if believed else {}
    if not problem and latest.get("when", "") < when:
        problem = f"the decision {record[:12]} of {when} was seen here before and is gone: the record was set back"
    if problem:
        raise UntrustedError(
            f"{which} in {store}: {problem}; what counts is signed by a key that is trusted here ({keys.names}). "
            "Do not use it; whoever promotes looks at `bus-mlops history` and decides on the record, with "
            "promotion.signing_key."
        )
    if latest.get("when", "") > when:
        remember_seen(store, version.name, latest.get("when", ""), latest.get("record", ""))


def _is_moving(client: MlflowClient, store: str, name: str) -> bool:
    """Whether somebody is moving the aliases just now: his decision is on record, and the aliases follow."""
    model = _ask(store, lambda: client.get_registered_model(name))
    return any(key.startswith(CLAIM_TAG) for key in model.tags or {})


def _recorded(client: MlflowClient, store: str, version: ModelVersion) -> tuple[list[Mapping[str, str]], str]:
    """The decisions on a model, the first one first, and why they cannot be read: an account may read models only."""
    try:
        return _ask(store, lambda: list(_decisions(client, version.name))), ""
    except RegistryError as error:
        return [], f"the record of decisions cannot be read: {error}"


def _decisions(client: MlflowClient, name: str) -> Iterator[Mapping[str, str]]:
    """The tags of all closed records of a model, the first one first."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return
    query, order = f"attributes.status = 'FINISHED' and tags.model = '{name}'", ["attributes.end_time ASC"]
    page, token = 1000, None
    while True:
        runs = client.search_runs([experiment.experiment_id], query, 1, page, order, token)
        yield from ({**run.data.tags, "record": run.info.run_id} for run in runs if DECISION_DIGEST in run.data.tags)
        if not (token := runs.token):
            return


def _ask_or_recall(store: str, uri: str, ask: Callable[[], Location], fresh: bool) -> Location:
    pulled = recall(store, uri)
    if pulled is None:
        return ask()
    # With a copy at hand, nobody waits minutes for a server that is away.
    try:
        with settings(IMPATIENT):
            return ask()
    except StoreError as error:
        if fresh:
            raise
        logging.getLogger(__name__).warning("%s", _pulled_note(uri, pulled, error))
        folder = cache_folder() / pulled.digest
        return Location(folder, pulled.name, pulled.version, pulled.digest, pulled.standing, pulled.decision)


def _pulled_note(uri: str, pulled: Pulled, error: StoreError) -> str:
    which = f"version {pulled.version}" if pulled.version else f"package {pulled.digest[:12]}"
    return f"{uri}: using {which}, pulled {pulled.when}, which may not be the newest: {error}"


def default_tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else tracking.uri of ./params.yaml, else ./mlflow.db."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _uri_of_project() or DEFAULT_STORE


def _uri_of_project() -> str | None:
    """tracking.uri of ./params.yaml, of which nothing else is looked at: it concerns training.

    None where the file, or a mapping `tracking` in it, is missing: then it is not a project of ours.
    """
    import yaml

    try:
        if PARAMS.exists() and not PARAMS.is_file():  # reading a pipe would wait for ever
            raise OSError("it is not a file")
        values = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{PARAMS} cannot be read for its tracking.uri: {reason}. {ELSEWHERE}") from None
    tracking = values.get("tracking") if isinstance(values, dict) else None
    if not isinstance(tracking, dict) or "uri" not in tracking:
        return None
    uri = tracking["uri"]
    if not isinstance(uri, str) or not uri.strip():
        raise ConfigError(f"{PARAMS}: tracking.uri = {uri!r} is not the address of an MLflow store. {ELSEWHERE}")
    return uri


def open_registry(uri: str) -> MlflowClient:
    """A client of an existing store. A missing SQLite file is an error here, never created by asking."""
    file = sqlite_file(uri)
    if file is not None and not (file.is_file() and file.stat().st_size):
        raise StoreError(
            f"no MLflow store at {file.resolve()}: no model has been registered here. Run `make reproduce` "
            "first, or say where the models are with --tracking-uri or MLFLOW_TRACKING_URI."
        )
    if file is not None and (problem := sqlite_problem(file)):
        raise StoreError(
            f"the database {file.resolve()} is damaged: {problem}. Bring back a copy of it, or name another store with "
            "--tracking-uri. A package that was exported or pulled still works."
        )
    if not uri.startswith(("http://", "https://")) and importlib.util.find_spec("sqlalchemy") is None:
        raise RegistryError(_lacking(uri, "sqlalchemy"))
    from mlflow import MlflowClient

    return _ask(uri, lambda: MlflowClient(tracking_uri=uri, registry_uri=uri))


def _find(client: MlflowClient, store: str, name: str, alias: str | None, number: str | None) -> ModelVersion:
    """The version behind an alias or a number; RegistryError listing what there is instead."""
    versions = _ask(store, lambda: list(client.search_model_versions(f"name = '{name.replace(chr(39), '')}'")))
    if not versions:
        names = _ask(store, lambda: sorted(model.name for model in client.search_registered_models()))
        there = f"Registered there: {', '.join(names)}" if names else "No model is registered there yet"
        raise RegistryError(f"no model {name!r} in {store}. {there}. `make reproduce` trains and registers one.")
    if number is not None:
        for version in versions:
            if int(version.version) == int(number):
                return version
        raise RegistryError(f"{name} has no version {number}. {_candidates(name, versions)}")
    aliases = _ask(store, lambda: client.get_registered_model(name).aliases)
    if alias not in aliases:
        raise RegistryError(f"{name} has no {alias}: no version carries that alias. {_candidates(name, versions)}")
    return _ask(store, lambda: client.get_model_version(name, str(aliases[alias])))


def _candidates(name: str, versions: list[ModelVersion]) -> str:
    newest = sorted(versions, key=lambda v: int(v.version), reverse=True)
    lines = [
        f"\n  version {v.version}, gate: {v.tags.get(GATE_TAG, 'not recorded')}, "
        f"run {v.run_id or 'unknown'}: --model models:/{name}/{v.version}"
        for v in newest[:10]
    ]
    more = f"\n  and {len(newest) - 10} older ones" if len(newest) > 10 else ""
    return "Candidates, each usable at your own judgement:" + "".join(lines) + more


def _fetch(client: MlflowClient, store: str, version: ModelVersion, fresh: bool) -> Path:
    """A local folder with the package: the store's own if it is on this machine, else a cached download."""
    recorded = _ask(store, lambda: client.get_model_version_download_uri(version.name, str(version.version)))
    source = _beside(store, recorded)
    digest = version.tags.get(DIGEST_TAG)
    cached = cache_folder() / digest if digest and re.fullmatch(r"[0-9a-f]{64}", digest) else None
    if cached is not None and cached.is_dir() and not fresh:
        return cached
    from mlflow.artifacts import download_artifacts

    package = _package_uri(store, source, version)
    if source.startswith(("file:", "/")):
        return Path(_ask(store, lambda: download_artifacts(artifact_uri=package, tracking_uri=store)))
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="fetching-") as temporary:
        folder = _ask(store, lambda: download_artifacts(artifact_uri=package, dst_path=temporary, tracking_uri=store))
        return put(Path(folder), cached or cache_folder() / f"{version.name}-{version.version}-{os.getpid()}")


def _beside(store: str, address: str) -> str:
    """The same folder of a project that was copied or moved since: MLflow keeps the whole path of the former place.

    What lies below the database as it lay below the former one is taken; nothing else is ever read then.
    """
    database, recorded = sqlite_file(store), local_path(address)
    if database is None or recorded is None:
        return address
    # At least models/ID/artifacts: shorter ends of a path are found anywhere.
    ends = (Path(*recorded.parts[start:]) for start in range(1, len(recorded.parts) - 2))
    there = (folder for end in ends if (folder := database.resolve().parent / end).is_dir())
    found = next(there, None)
    return address if found is None else found.as_uri()


def _package_uri(store: str, source: str, version: ModelVersion) -> str:
    """The package inside the MLflow model: the one folder among its artifacts, whatever its name."""
    from mlflow.artifacts import list_artifacts

    base = f"{source.rstrip('/')}/artifacts"
    entries = _ask(store, lambda: list_artifacts(artifact_uri=base, tracking_uri=store))
    folders = [entry.path.rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry.is_dir]
    if len(folders) != 1:
        raise RegistryError(
            f"{version.name} version {version.version} is registered, but there is no package at {base}. If the "
            "project was moved, run `bus-mlops relocate` in it; else put the artifact folder back, or register "
            "the model again."
        )
    return f"{base}/{folders[0]}"


def _ask(store: str, question: Callable[[], T]) -> T:
    """Ask the store; whatever its client raises becomes one RegistryError that names the store."""
    try:
        return question()
    except ModuleNotFoundError as error:
        raise RegistryError(_lacking(store, error.name or str(error))) from error
    except RegistryError:
        raise
    except Exception as error:  # mlflow, sqlalchemy, requests, boto3: each raises its own kind
        raise StoreError(
            f"the model store {store} cannot be used: {store_reason(error)}. {store_remedy(str(error), store)}"
        ) from error


def _lacking(store: str, package: str) -> str:
    if store.partition(":")[0].partition("+")[0] not in _SCHEMES:
        return f"{store} is not the address of an MLflow store, such as http://HOST:PORT or sqlite:///FILE. {ELSEWHERE}"
    return (
        f"the store {store} needs the Python package {package!r}, which is not installed. A consumer's install reads "
        "from tracking servers (http://...) and folders of packages; bus-mlops[pipeline] also from databases of SQLite."
    )
