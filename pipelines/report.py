"""DVC stage `report`: results/report.html, one self-contained page."""

from dataclasses import replace
from pathlib import Path

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.files import replacing
from bus_mlops.paragraphs import tell


def main(config: Config) -> None:
    from bus_mlops.evaluation.report.page import read_inputs, render_report
    from bus_mlops.evaluation.report.provenance import provenance
    from bus_mlops.tracking.ui import address_of, server_of

    served, port = server_of(config.tracking.uri), config.tracking.ui_port
    address = served or address_of("127.0.0.1", port)
    inputs = read_inputs(Path("data"), paths.RESULTS, provenance(config), config.promotion.baseline, address)
    if not served:
        inputs = replace(inputs, mlflow_starts=f"bus-mlops ui --port {port}")
    page = render_report(inputs)
    with replacing(paths.REPORT) as temporary:
        temporary.write_text(page, encoding="utf-8")
    tell("report", f"{paths.REPORT} ({len(page.encode()) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_stage(main)
