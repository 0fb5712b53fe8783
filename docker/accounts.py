"""Roles on the shared server: who reads, who trains, who promotes. Standard library only.

export MLFLOW_TRACKING_URI=http://SERVER:5000 MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD=...
python docker/accounts.py setup bus-mt-estan [--experiment bus-benchmark]
python docker/accounts.py give anna trainer
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

READ_ONLY, TRAINER, PROMOTER = "reader", "trainer", "promoter"
# Of decisions and their evidence; and of reports on external cohorts, which count as looks.
DECISIONS = ("promotions", "external")
WORKSPACE = "default"


class RefusedError(Exception):
    """The server did not do what it was asked."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def ask(method: str, path: str, **values: Any) -> dict[str, Any]:
    """One request as the account of the environment."""
    login = f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"
    address = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise RefusedError(f"MLFLOW_TRACKING_URI is {address}: it must be the server's http address.", "")
    request = urllib.request.Request(  # noqa: S310 - as checked above
        f"{address}/api/{path}",
        json.dumps(values).encode() if method != "GET" else None,
        {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}", "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return dict(json.loads(answer.read() or b"{}"))
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        code = json.loads(said).get("error_code", "") if said.startswith("{") else ""
        raise RefusedError(f"{method} {path}: {error.code} {said[:300]}", code) from None


def experiment(name: str) -> str:
    """The id of an experiment, made by this account where there is none."""
    try:
        found = ask("GET", f"2.0/mlflow/experiments/get-by-name?experiment_name={name}")
    except RefusedError as error:
        if error.code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return str(ask("POST", "2.0/mlflow/experiments/create", name=name)["experiment_id"])
    return str(found["experiment"]["experiment_id"])


def reserve(model: str) -> None:
    """Register a name, so that no account can take it for itself."""
    try:
        ask("POST", "2.0/mlflow/registered-models/create", name=model)
    except RefusedError as error:
        if error.code != "RESOURCE_ALREADY_EXISTS":
            raise


def roles(models: list[str], experiments: list[str]) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Each role with what it grants; whatever is not named is only read (`default_permission`)."""
    trained = [("experiment", experiment(name), "EDIT") for name in experiments]
    # To delete an alias, as every promotion does, takes MANAGE.
    decided = [("experiment", experiment(name), "MANAGE") for name in DECISIONS]
    yield READ_ONLY, []
    yield TRAINER, trained
    yield PROMOTER, [*trained, *decided, *(("registered_model", name, "MANAGE") for name in models)]


def setup(models: list[str], experiments: list[str]) -> None:
    """Make what the roles are about, and the roles; what is there already stays, and grants are added."""
    for model in models:
        reserve(model)
    present = role_ids()
    for name, grants in roles(models, experiments):
        role = present.get(name) or ask("POST", "3.0/mlflow/roles/create", workspace=WORKSPACE, name=name)["role"]["id"]
        listed = ask("GET", f"3.0/mlflow/roles/permissions/list?role_id={role}")["role_permissions"]
        there = {(each["resource_type"], each["resource_pattern"], each["permission"]) for each in listed}
        for kind, pattern, permission in grants:
            if (kind, pattern, permission) not in there:
                ask(
                    "POST",
                    "3.0/mlflow/roles/permissions/add",
                    role_id=role,
                    resource_type=kind,
                    resource_pattern=pattern,
                    permission=permission,
                )
        print(f"{name}: {', '.join(' '.join(grant) for grant in grants) or 'reads'}")


def role_ids() -> dict[str, int]:
    """The id of each role, by name."""
    return {role["name"]: role["id"] for role in ask("GET", f"3.0/mlflow/roles/list?workspace={WORKSPACE}")["roles"]}


def give(user: str, role: str) -> None:
    """Give an account one of the roles, and take the others from it."""
    ids = role_ids()
    if role not in ids:
        raise RefusedError(f"there is no role {role}: run `setup` first.", "")
    held = {each["name"] for each in ask("GET", f"3.0/mlflow/users/roles/list?username={user}")["roles"]}
    for other in held & {READ_ONLY, TRAINER, PROMOTER} - {role}:
        ask("DELETE", "3.0/mlflow/roles/unassign", username=user, role_id=ids[other])
    if role not in held:
        ask("POST", "3.0/mlflow/roles/assign", username=user, role_id=ids[role])
    print(f"{user}: {role}")


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description="Roles on the shared server, given by its administrator.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("setup", help="reserve names and make the roles")
    making.add_argument("models", nargs="+", help="registered names, as in `promotion.name`")
    making.add_argument("--experiment", action="append", help="as in `tracking.experiment`; may be given again")
    giving = commands.add_parser("give", help="give an account a role")
    giving.add_argument("user")
    giving.add_argument("role", choices=[READ_ONLY, TRAINER, PROMOTER])
    asked = parser.parse_args()
    try:
        if asked.command == "setup":
            setup(asked.models, asked.experiment or ["bus-benchmark"])
        else:
            give(asked.user, asked.role)
    except (RefusedError, urllib.error.URLError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
