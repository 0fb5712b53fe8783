"""docs/how-to/use-a-promoted-model.md, command by command, in a new environment made from a built wheel."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from mlflow_server import mlflow_server
from projects import ROOT
from s3_server import s3_server
from service import served
from tiny_package import speckle

from bus_mlops import scaffold
from bus_mlops.consumer.client import load_model

DOC = ROOT / "docs" / "how-to" / "use-a-promoted-model.md"
NAME = "bus-mt-estan-phantom"
ABSENT = ("tensorflow", "keras", "dvc", "optuna", "sklearn", "scipy", "matplotlib", "cv2", "onnx", "torch")


def blocks() -> dict[str, list[tuple[str, str]]]:
    """Heading -> its code blocks, as (language, code)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in re.split(r"^## ", DOC.read_text(), flags=re.MULTILINE)[1:]:
        heading, text = part.split("\n", 1)
        found[heading] = re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, since building leaves files in the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    around = {path for pattern in (*scaffold.KEPT_CURRENT, *scaffold.WRITTEN_ONCE) for path in ROOT.glob(pattern)}
    for path in (*around, *(ROOT / name for name in ("bus_mlops", "dvc.yaml", "setup.py", "pyproject.toml"))):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, target)
    for name in ("README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next((folder / "out").glob("*.whl"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory, package_folder):
    """A tracking server with a champion, its artifacts behind the server."""
    import mlflow

    from bus_mlops.packaging.package import log_package

    with mlflow_server(tmp_path_factory.mktemp("server")) as server:
        client = mlflow.MlflowClient(server.url)
        run = client.create_run("0").info.run_id
        for _ in range(3):
            version = log_package(package_folder, registered_name=NAME, run_id=run, tracking_uri=server.url)
        client.set_registered_model_alias(NAME, "champion", version.version)
        yield server


class Consumer:
    """A folder with images, and a shell that knows nothing of this environment."""

    def __init__(self, folder: Path, wheel: Path, store: str) -> None:
        self.folder = folder
        self.replaced = {
            "pip install bus-mlops\n": f"pip install --quiet {wheel}\n",
            'pip install "bus-mlops[serve]"': f'pip install --quiet "{wheel}[serve]"',
            "http://127.0.0.1:5000": store,
            "bus-mt-estan@": f"{NAME}@",
        }
        mine = {"PYTHONPATH", "VIRTUAL_ENV", "MLFLOW_TRACKING_URI", "PYTHONHOME"}
        self.environment = {name: value for name, value in os.environ.items() if name not in mine}
        self.environment["BUS_MLOPS_CACHE"] = str(folder / "cache")
        self.environment["COLUMNS"] = "200"
        self.before = ""

    @property
    def python(self) -> str:
        return str(self.folder / "bus" / "bin" / "python")

    def run(self, *code: tuple[str, str], **replaced: str) -> str:
        """Run blocks one after the other in one shell; what they print."""
        lines = ["set -euo pipefail", self.before]
        for language, text in code:
            for old, new in {**self.replaced, **replaced}.items():
                text = text.replace(old, new)
            lines.append(text if language == "bash" else f"python - <<'PYTHON'\n{text}\nPYTHON")
        done = subprocess.run(
            ["bash", "-c", "\n".join(lines)], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def consumer(tmp_path_factory, wheel, registry) -> Consumer:
    made = Consumer(tmp_path_factory.mktemp("consumer"), wheel, registry.url)
    for number in (1, 2):
        PIL.Image.fromarray(speckle(90 + number, 120, number)).save(made.folder / f"scan{number}.png")
    made.run(*blocks()["Install"])
    made.before = f"source bus/bin/activate\nexport MLFLOW_TRACKING_URI={registry.url}"
    return made


@pytest.mark.slow
class TestTheHowTo:
    """In the order of the page."""

    def test_install_is_the_consumers(self, consumer):
        listed = json.loads(consumer.run(("bash", "pip list --format json --disable-pip-version-check")))
        names = {each["name"].lower().split("-cpu")[0] for each in listed}
        assert {"bus-mlops", "onnxruntime", "mlflow-skinny", "boto3"} <= names
        assert not names & {*ABSENT, "scikit-learn", "opencv-python-headless", "mlflow", "pandas"}
        code = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
        assert consumer.run(("python", code)).strip() == "[]"
        commands = consumer.run(("bash", "bus-mlops --help"))
        assert all(name in commands for name in ("predict", "export", "pull", "serve", "history"))

    def test_a_project_begins_without_a_clone(self, consumer):
        assert "pip install 'bus-mlops[train]'" in consumer.run(("bash", "bus-mlops init project"))
        made = {path.relative_to(consumer.folder / "project").as_posix() for path in consumer.folder.rglob("project/*")}
        assert {"dvc.yaml", "params.yaml", "installed.yaml", "pipelines", "extensions", ".dvc"} <= made

    def test_predict(self, consumer, package_folder):
        *shell, script = blocks()["Predict"]
        assert [shell[0][0], script[0]] == ["bash", "python"]
        expected = load_model(package_folder).predict([consumer.folder / f"scan{n}.png" for n in (1, 2)], masks=True)
        said = consumer.run(*shell)
        first = json.loads(said[said.index("[\n") :])[0]
        assert first["probability"] == pytest.approx(expected[0].probability, abs=1e-5)
        assert (first["model"], first["version"]) == (NAME, "3")
        assert "Research use only" in said
        for number, row in enumerate(expected, 1):
            mask = np.asarray(PIL.Image.open(consumer.folder / "masks" / f"scan{number}_mask.png"))
            assert row.mask is not None
            assert np.mean(mask == row.mask * 255) > 0.999
        rows = [line.split() for line in consumer.run(script).splitlines()]
        assert [row[0] for row in rows] == ["scan1.png", "scan2.png"]
        assert [float(row[1]) for row in rows] == pytest.approx([r.probability for r in expected], abs=1e-5)
        assert {row[4] for row in rows} == {"3"}

    def test_copies(self, consumer):
        pull, export, bucket = blocks()["Where the registry cannot be reached"]
        assert f"{NAME} version 3" in consumer.run(pull)
        assert "Research use only" in consumer.run(export)
        with s3_server(consumer.folder / "s3" / "server") as server:
            import boto3

            consumer.environment.update(server.environment)
            keys = {"aws_access_key_id": server.key, "aws_secret_access_key": server.secret}
            boto3.client("s3", endpoint_url=server.url, region_name="us-east-1", **keys).create_bucket(Bucket="models")
            replaced = {"https://s3.example.org": server.url, "s3://BUCKET": "s3://models"}
            replaced["export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=..."] = ""
            assert "Research use only" in consumer.run(bucket, **replaced)

    def test_serve(self, consumer, package_folder, registry):
        import requests

        install, curl = blocks()["Serve it"]
        consumer.run(("bash", install[1].splitlines()[0]))
        assert install[1].splitlines()[1].startswith("bus-mlops serve models:/")
        model = f"models:/{NAME}@champion"
        with served(model, "--tracking-uri", registry.url, python=consumer.python, cwd=consumer.folder) as url:
            said = consumer.run(curl, **{"http://127.0.0.1:5001": url})
            row = json.loads(said)["predictions"][0]
            about = requests.get(f"{url}/version", timeout=10).json()
            assert "<title>" in requests.get(f"{url}/", timeout=10).text
            assert requests.get(f"{url}/page.js", timeout=10).status_code == 200
        expected = load_model(package_folder).predict([consumer.folder / "scan1.png"])[0]
        assert row["probability"] == pytest.approx(expected.probability, abs=1e-5)
        assert (row["model"], row["version"], about["version"]) == (NAME, "3", "3")

    def test_with_mlflow_alone(self, consumer):
        said = consumer.run(*blocks()["With MLflow alone"])
        assert "probability" in said
        assert NAME in said

    def test_the_pulled_model_answers_when_the_server_is_gone(self, consumer, registry):
        """Last, since it takes the server away."""
        registry.stop()
        shell = blocks()["Predict"][0]
        assert "Research use only" in consumer.run(shell)
        said = consumer.run(("bash", f"bus-mlops predict --model models:/{NAME}@champion scan1.png 2>&1"))
        assert "using version 3, pulled" in said
        with pytest.raises(AssertionError, match="cannot be used"):
            consumer.run(("bash", f"bus-mlops predict --model models:/{NAME}/1 scan1.png"))
