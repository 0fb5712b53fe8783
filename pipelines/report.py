"""DVC stage `report`: results/report.html, one self-contained page."""

from pathlib import Path

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.files import replacing
from bus_mlops.paragraphs import tell


def main(config: Config) -> None:
    from bus_mlops.evaluation.report.page import read_inputs, render_report
    from bus_mlops.evaluation.report.provenance import provenance

    # An embedded store has pages while `bus-mlops ui` runs.
    uri = config.tracking.uri
    mlflow = uri if uri.startswith("http") else "http://127.0.0.1:5000"
    inputs = read_inputs(Path("data"), paths.RESULTS, provenance(config), config.promotion.baseline, mlflow)
    page = render_report(inputs)
    with replacing(paths.REPORT) as temporary:
        temporary.write_text(page, encoding="utf-8")
    tell("report", f"{paths.REPORT} ({len(page.encode()) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_stage(main)
