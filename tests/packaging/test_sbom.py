"""The bill of materials in every package: CycloneDX by its own schema, the same each time, with every licence."""

from __future__ import annotations

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bus_mlops.consumer.package_files import open_package
from bus_mlops.consumer.package_format import SBOM_FILE
from bus_mlops.packaging.sbom import DataSet, bill_of_materials
from bus_mlops.sources.registry import SOURCES, UNSTATED_TERMS, title_and_terms


def test_it_is_in_every_package_and_what_the_schema_asks_for(package_folder):
    package = open_package(package_folder).package
    text = (package_folder / SBOM_FILE).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text) == bill_of_materials(package)
    assert not {"serialNumber", "timestamp"} & {*json.loads(text), *json.loads(text)["metadata"]}


def test_it_names_both_environments_and_the_licences_of_data_and_weights(package_folder):
    package = open_package(package_folder).package
    lineage = {"initial_weights": "imagenet, radimagenet"}
    learnt_from = [DataSet(name, *title_and_terms(name)) for name in ("busbra", "busi")]
    changed = package.model_copy(update={"lineage": lineage})
    found = {each["bom-ref"]: each for each in bill_of_materials(changed, learnt_from)["components"]}
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


def test_the_terms_of_a_source_are_its_licence_or_why_there_is_none_or_that_nobody_says():
    terms = {name: source.release.licence for name, source in SOURCES.items() if source.release}
    terms |= {name: source.not_offered for name, source in SOURCES.items() if source.not_offered}
    assert set(terms) == set(SOURCES), "of each that we know somebody says something"
    assert {name: title_and_terms(name) for name in terms} == {
        name: (SOURCES[name].title, said) for name, said in terms.items()
    }
    assert title_and_terms("own") == ("own", UNSTATED_TERMS)
