"""The bill of materials in every package: CycloneDX by its own schema, the same each time, with every licence."""

from __future__ import annotations

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bus_mlops.consumer.package_files import open_package
from bus_mlops.consumer.package_format import SBOM_FILE
from bus_mlops.packaging.sbom import bill_of_materials


def test_it_is_in_every_package_and_what_the_schema_asks_for(package_folder):
    package = open_package(package_folder).package
    text = (package_folder / SBOM_FILE).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text) == bill_of_materials(package)
    assert not {"serialNumber", "timestamp"} & {*json.loads(text), *json.loads(text)["metadata"]}


def test_it_names_both_environments_and_the_licences_of_data_and_weights(package_folder):
    package = open_package(package_folder).package
    lineage = {"initial_weights": "imagenet, radimagenet"}
    changed = package.model_copy(update={"trained_on": "busbra, busi; refitted on all of them", "lineage": lineage})
    found = {each["bom-ref"]: each for each in bill_of_materials(changed)["components"]}
    assert {"data:busbra", "data:busi", "weights:imagenet", "weights:radimagenet"} <= set(found)
    assert "CC BY 4.0" in found["data:busbra"]["licenses"][0]["license"]["name"]
    uses = {
        each["name"]: [p["value"] for p in each["properties"]] for each in found.values() if each["type"] == "library"
    }
    assert uses["onnxruntime"] == ["consumer", "training"]
    assert uses["optuna"] == ["training"]
    assert "tensorflow" in uses or "tensorflow-cpu" in uses
    unlicensed = [each["name"] for each in found.values() if "licenses" not in each]
    assert len(unlicensed) < len(found) / 10, unlicensed
