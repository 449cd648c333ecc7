"""For the schema-driven run: a file that can be understood, because no schema can say what is inside one."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, HookContext

FILE = ("rows.csv", b"prompt,completion\na,b\n")


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    if context.operation is not None and context.operation.path == "/datasets/upload" and isinstance(body, dict):
        return {key: value for key, value in body.items() if key not in ("mapping", "encoding")}
    return body


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    if case.operation.path != "/datasets/upload" or not isinstance(case.body, dict):
        return
    if isinstance(case.body.get("file"), bytes | str):
        case.body["file"] = FILE
