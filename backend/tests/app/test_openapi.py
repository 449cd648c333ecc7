"""`/docs` and the description behind it: offline, complete, with examples that are true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

METHODS = {"get", "post", "patch", "delete", "put"}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield f"{method.upper()} {path}", item[method]


@pytest.mark.filterwarnings("ignore:open_binary:DeprecationWarning")  # of the library that serves the page's files
def test_docs_load_nothing_from_elsewhere(client: TestClient) -> None:
    """Every address that the page asks for is this service's own, and is there."""
    page = client.get("/docs")
    assert page.status_code == 200
    asked = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert asked
    for address in asked:
        own = address.removeprefix(str(client.base_url))
        assert not re.match(r"(https?:)?//", own), address
        answer = client.get(address)
        assert answer.status_code == 200, address
    assert "cdn" not in page.text


def test_every_operation_says_what_it_is_and_what_may_go_wrong(document: dict[str, Any]) -> None:
    seen = set()
    for name, operation in operations(document):
        assert operation.get("summary"), name
        assert operation["summary"] not in seen, f"{name}: its summary is another's"
        seen.add(operation["summary"])
        if "{" in name:
            assert "404" in operation["responses"], name
        for status, answer in operation["responses"].items():
            if status.startswith(("4", "5")):
                schema = answer["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (name, status)


def test_every_field_that_is_sent_is_described(document: dict[str, Any]) -> None:
    for name in ("NewExperiment", "NewModel", "Problem"):
        for field, schema in document["components"]["schemas"][name]["properties"].items():
            assert schema.get("description"), (name, field)


def test_examples_validate_against_their_schemas(document: dict[str, Any]) -> None:
    found = 0
    for name, schema in document["components"]["schemas"].items():
        for shown in [schema["example"]] if "example" in schema else []:
            # FastAPI leaves nulls out of the document, of examples too.
            example = dict.fromkeys(schema.get("required", [])) | shown
            jsonschema_rs.validate({**schema, "components": document["components"]}, example)
            found += 1
        for field, inner in schema.get("properties", {}).items():
            for example in inner.get("examples", []):
                jsonschema_rs.validate({**inner, "components": document["components"]}, example)
                assert example != "", (name, field)
                found += 1
    assert found
