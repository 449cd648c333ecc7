"""Words that every module shares (kinds of data, methods, adapters), and classes whose fields describe themselves.

The lowest floor of the training library, below `spec`, which offers all of it again.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Described(BaseModel):
    """The text under a field is its description in the JSON Schema.

    As pydantic's `use_attribute_docstrings` does it, but read when a schema is asked for and not at import, where it
    costs every process a tenth of a second.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for owner in reversed(cls.__mro__):
            if issubclass(owner, Described) and owner is not Described:
                for name, text in _field_texts(owner).items():
                    if name in properties:
                        properties[name].setdefault("description", text)
        return schema


@cache
def _field_texts(owner: type) -> dict[str, str]:
    """The strings that stand under the annotated fields of a class."""
    try:
        source = textwrap.dedent(inspect.getsource(owner))
    except OSError:
        return {}
    body = cast(ast.ClassDef, ast.parse(source).body[0]).body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


class Frozen(Described):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class FileFormat(StrEnum):
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class DatasetKind(StrEnum):
    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt_completion"
    PREFERENCE = "preference"
    CLASSIFICATION = "classification"
    TEXT = "text"


class Method(StrEnum):
    SFT = "sft"
    PRETRAIN = "pretrain"
    CLASSIFY = "classify"
    MASK = "mask"
    DPO = "dpo"


class Adapter(StrEnum):
    LORA = "lora"
    FULL = "full"
    QLORA = "qlora"
