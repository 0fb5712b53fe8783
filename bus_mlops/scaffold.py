"""A project folder from the installed package: the pipeline, a profile, and what DVC needs to know of our code.

In a clone, stages depend on modules beside them. Here the package lies elsewhere, so that the stage `installed`, which
always runs, writes the digest of each room and module that stages name into `installed.yaml`, and these depend on them
as on parameters: another version of bus-mlops runs the stages that it may change, and no others.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import bus_mlops
from bus_mlops.errors import ConfigError
from bus_mlops.files import replacing
from bus_mlops.paths import EXTENSIONS, OFFICIAL_FOLDS, PARAMS

PACKAGE = Path(bus_mlops.__file__).parent
# In a wheel, setup.py has put there what lies around the package in a clone.
TEMPLATE = PACKAGE / "template"
PIPELINE, DIGESTS = Path("dvc.yaml"), Path("installed.yaml")
PLOTS = Path(".dvc/plots")
# What a user never edits, and what is written once.
KEPT_CURRENT = (".dvcignore", "pipelines/*.py")
WRITTEN_ONCE = (
    ".dvc/config",
    ".dvc/.gitignore",
    ".gitignore",
    "data/raw/README.md",
    f"{OFFICIAL_FOLDS}/README.md",
    f"{EXTENSIONS}/README.md",
)
_HEAD = (
    "# Made by bus-mlops {version} (`bus-mlops init`); `bus-mlops init --update .` brings it up to that installed.\n"
)
_DIGEST_STAGE = {
    "desc": "ask, every time, which code is installed",
    "cmd": "python pipelines/installed.py",
    "always_changed": True,
    "deps": ["pipelines/installed.py"],
    "outs": [{str(DIGESTS): {"cache": False, "persist": True}}],
}
_DIGEST_SCRIPT = '''\
"""DVC stage `installed`: write which code is installed, so that stages run again where it has changed."""

from pathlib import Path

from bus_mlops.error_messages import readable_errors
from bus_mlops.scaffold import write_digests

if __name__ == "__main__":
    with readable_errors():
        write_digests(Path())
'''


def make(folder: Path, params: str) -> None:
    """Make a project in a folder that is not there, or is empty but for a `.git`.

    Args:
        folder: The project.
        params: What its params.yaml holds.

    Raises:
        ConfigError: There is something in the folder, or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file. Name a folder that is not there yet.")
    there = sorted(path.name for path in folder.iterdir() if path.name != ".git") if folder.exists() else []
    if there:
        raise ConfigError(
            f"{folder} is not empty ({', '.join(there[:3])}{', ...' if len(there) > 3 else ''}); nothing is written "
            "over. Name a folder that is not there yet; `bus-mlops init --update` brings a project up to this version."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / PARAMS, params)
    _copy(folder, WRITTEN_ONCE)
    update(folder)


def update(folder: Path) -> None:
    """Bring the pipeline of a project up to the installed version; parameters, extensions and data stay as they are.

    Raises:
        ConfigError: It is no project that `make` has made.
    """
    clone = (folder / PIPELINE).exists() and not (folder / PIPELINE).read_text(encoding="utf-8").startswith(_HEAD[:19])
    if clone or not (folder / PARAMS).is_file():
        what = "a clone, which git brings up to date" if clone else f"no project: it has no {PARAMS}"
        raise ConfigError(f"{folder.resolve()} is {what}. `bus-mlops init DIR` makes a project in a new folder.")
    _copy(folder, KEPT_CURRENT)
    _write(folder / "pipelines" / "installed.py", _DIGEST_SCRIPT)
    text = (_source() / PIPELINE).read_text(encoding="utf-8")
    for path in PACKAGE.glob("evaluation/report/templates/*.json"):
        _write(folder / PLOTS / path.name, path.read_text(encoding="utf-8"))
    _write(folder / PIPELINE, _HEAD.format(version=bus_mlops.__version__) + _on_installed_code(text))
    write_digests(folder)


def write_digests(folder: Path) -> None:
    """Write `installed.yaml`: the sha256 of each part of the installed package that the project's stages name.

    Raises:
        ConfigError: The pipeline was made by another version.
    """
    text = (folder / PIPELINE).read_text(encoding="utf-8")
    if not text.startswith(_HEAD.format(version=bus_mlops.__version__)):
        raise ConfigError(
            f"{folder.resolve() / PIPELINE} is not that of bus-mlops {bus_mlops.__version__}, which is installed. "
            "`bus-mlops init --update .` brings the pipeline up to it (parameters, extensions and data stay); or "
            "install the version that its first line names."
        )
    named = {key for stage in _bodies(yaml.safe_load(text)) for key in _named(stage)}
    digests = {key: _digest(key) for key in sorted(named)}
    _write(folder / DIGESTS, yaml.safe_dump({"version": bus_mlops.__version__, **digests}, sort_keys=False))


def commit(folder: Path) -> str:
    """Put a new project under git, which the gate asks for; a folder in a repository is left to its owner.

    Returns:
        What the user still has to do; "" if nothing.
    """
    if shutil.which("git") is None:
        with (folder / ".dvc" / "config").open("a", encoding="utf-8") as config:
            config.write("    no_scm = true\n")
        return "git is not installed, and the gate refuses runs of unknown code (promotion.require_clean_git)"
    own = (folder / ".git").exists()
    if not own and _git(folder, "rev-parse", "--is-inside-work-tree").returncode == 0:
        return "commit the folder: the gate asks for committed code (promotion.require_clean_git)"
    if not own:
        _git(folder, "init", "--quiet")
    _git(folder, "add", "--all")
    done = _git(folder, "commit", "--quiet", "--message", f"Begin a project with bus-mlops {bus_mlops.__version__}")
    return "" if done.returncode == 0 else f"git commit failed, so commit it yourself: {' '.join(done.stderr.split())}"


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def _source() -> Path:
    """The folder with the pipeline: in a wheel our own, in a clone the one around the package."""
    for folder in (TEMPLATE, PACKAGE.parent):
        if (folder / PIPELINE).is_file():
            return folder
    raise ConfigError(
        f"this installation of bus-mlops has no {PIPELINE} beside or in {PACKAGE}: install a wheel, or use a clone."
    )


def _copy(folder: Path, patterns: tuple[str, ...]) -> None:
    source = _source()
    for path in (path for pattern in patterns for path in sorted(source.glob(pattern))):
        _write(folder / path.relative_to(source), path.read_text(encoding="utf-8"))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _on_installed_code(text: str) -> str:
    """The pipeline of a clone, with stages that depend on `installed.yaml` in the place of modules beside them."""
    pipeline = yaml.safe_load(text.replace("bus_mlops/evaluation/report/templates/", f"{PLOTS.as_posix()}/"))
    for stage in _bodies(pipeline):
        modules = [each for each in stage["deps"] if each.startswith("bus_mlops/")]
        stage["deps"] = [each for each in stage["deps"] if each not in modules]
        keys = [each.removeprefix("bus_mlops/").removesuffix(".py") for each in modules]
        stage["params"] = [*stage.get("params", []), {str(DIGESTS): keys}]
    pipeline["stages"] = {"installed": _DIGEST_STAGE, **pipeline["stages"]}
    return yaml.safe_dump(pipeline, sort_keys=False, width=120)


def _bodies(pipeline: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for stage in pipeline["stages"].values():
        yield stage.get("do", stage)


def _named(stage: dict[str, Any]) -> Iterator[str]:
    for each in stage.get("params", []):
        if isinstance(each, dict):
            yield from each.get(str(DIGESTS), [])


def _digest(key: str) -> str:
    """64 hexadecimal digits over a module, or over all files of a room with their places."""
    path = PACKAGE / key
    files = [path.with_suffix(".py")] if not path.is_dir() else sorted(path.rglob("*"))
    found = hashlib.sha256()
    for file in files:
        if file.is_file() and file.suffix != ".pyc":
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            found.update(f"{content}  {file.relative_to(PACKAGE).as_posix()}\n".encode())
    return found.hexdigest()
