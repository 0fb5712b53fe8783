"""What a package does in a process that has the consumer's install and nothing more; the gate judges it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import bus_mlops
from bus_mlops.consumer.package_format import ARTIFACT, PACKAGE_FILE
from bus_mlops.errors import RegistryError
from bus_mlops.gate.comparison import PackageCheck

# What a training has and a consumer lacks; the clean process must not be able to import any of it.
TRAINING_ONLY = ("tensorflow", "keras", "dvc", "optuna", "sklearn", "tf2onnx")
TIMEOUT_SECONDS = 300

_QUESTION = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bus_mlops.consumer.client import BusModel
from bus_mlops.consumer.package_files import open_package
there = [name for name in sys.argv[3:] if importlib.util.find_spec(name) is not None]
# Not by load_model: whom this account trusts is no matter of a package that nobody could sign yet.
opened = open_package(Path(sys.argv[2]))
model = BusModel(opened.folder, opened.package, opened=opened)
print(json.dumps({"there": there, "difference": model.check_example(), "members": len(model.package.members)}))
"""


def check_package(model: Path) -> PackageCheck:
    """Look at the signature of an MLflow model folder (`MLmodel`, `artifacts/`) and let its package answer its example.

    A package that does not load is no exception but the check's `error`.
    """
    unsigned: tuple[str, ...] = ()
    try:
        unsigned = _unsigned(model)
        answer = ask_clean_process(packaged(model))
    except RegistryError as error:
        return PackageCheck(forbidden=TRAINING_ONLY, unsigned=unsigned, error=str(error))
    return PackageCheck(
        forbidden=TRAINING_ONLY,
        unsigned=unsigned,
        importable=tuple(answer["there"]),
        members=int(answer["members"]),
        difference=float(answer["difference"]),
    )


def ask_clean_process(package: Path) -> dict[str, Any]:
    """Load a package in a new interpreter that sees only the base install of bus-mlops.

    Raises:
        RegistryError: It does not load, or does not answer in time.
    """
    with tempfile.TemporaryDirectory(prefix="bus-consumer-") as temporary:
        site = Path(temporary) / "site"
        link_base_install(site)
        # -I: no user folders, no PYTHON* variables; -S: no site-packages, so all there is lies in `site`.
        command = [sys.executable, "-I", "-S", "-c", _QUESTION, str(site), str(package.resolve()), *TRAINING_ONLY]
        try:
            done = subprocess.run(
                command, cwd=temporary, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise RegistryError(
                f"the package {package.name} did not answer in {TIMEOUT_SECONDS} s in a clean process"
            ) from None
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise RegistryError(f"the package does not load in a clean process: {reason[0][:500]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def link_base_install(site: Path) -> None:
    """Fill a folder with links to what `pip install bus-mlops` without extras would install, and nothing else."""
    site.mkdir(parents=True)
    (site / "bus_mlops").symlink_to(Path(bus_mlops.__file__).parent)
    for found in base_install():
        for name in _top_level(found):
            target, link = Path(str(found.locate_file(name))), site / name
            if target.exists() and not link.is_symlink():
                link.symlink_to(target.resolve())


def base_install() -> list[Distribution]:
    """The distributions that bus-mlops needs without extras, theirs included.

    Raises:
        RegistryError: One is missing.
    """
    from packaging.requirements import Requirement

    try:
        waiting = [Requirement(text) for text in distribution("bus-mlops").requires or ()]
    except PackageNotFoundError:
        raise RegistryError(
            "bus-mlops is not installed here, so its base install is not known: pip install -e ."
        ) from None
    found: dict[str, Distribution] = {}
    asked: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        wanted = requirement.extras or {""}
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *wanted}):
            continue
        key = f"{requirement.name.lower()}[{','.join(sorted(requirement.extras))}]"
        if key in asked:
            continue
        asked.add(key)
        try:
            found[requirement.name.lower()] = distribution(requirement.name)
        except PackageNotFoundError:
            raise RegistryError(
                f"{requirement.name}, of the base install of bus-mlops, is missing: reinstall it."
            ) from None
        waiting += [
            each
            for each in map(Requirement, found[requirement.name.lower()].requires or ())
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras})
        ]
    return list(found.values())


def packaged(model: Path) -> Path:
    """The package inside an MLflow model folder.

    Raises:
        RegistryError: It holds none.
    """
    folder = model / "artifacts"
    found = [each for each in (folder / ARTIFACT, *folder.glob("*")) if (each / PACKAGE_FILE).is_file()]
    if not found:
        raise RegistryError(f"{model} holds no package below artifacts: register the model again.")
    return found[0]


def _unsigned(model: Path) -> tuple[str, ...]:
    """The parts that the model's signature lacks."""
    import yaml

    try:
        described = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise RegistryError(f"its MLmodel cannot be read ({error})") from error
    signature = described.get("signature") or {}
    return tuple(part for part in ("inputs", "outputs") if not signature.get(part))


def _top_level(found: Distribution) -> set[str]:
    names = {str(path.parts[0]) for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}
    return {name for name in names if not name.endswith(".pth")}
