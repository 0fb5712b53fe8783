"""Puts into a wheel what lies around the package in a clone, so that `bus-mlops init` finds it there."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PATTERNS = (
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    ".dvc/.gitignore",
    "pipelines/*.py",
    "extensions/README.md",
    "data/raw/README.md",
    "data/folds-official/README.md",
)


class WithTemplate(build_py):
    """The package, and `template/` in it; a clone that is installed to be worked on needs none."""

    def run(self) -> None:
        """Copy the modules, then the template."""
        super().run()
        if self.editable_mode:
            return
        here = Path(__file__).parent
        for path in (path for pattern in PATTERNS for path in sorted(here.glob(pattern))):
            target = Path(self.build_lib) / "bus_mlops" / "template" / path.relative_to(here)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": WithTemplate})
