"""The JSON Schema of a configuration, from the sections and their docstrings.

Only the schema reads docstrings. pydantic's `use_attribute_docstrings` would read the source of every section at each
start.
"""

from __future__ import annotations

import ast
import inspect
from textwrap import dedent
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from pipeline.config import Config
from pipeline.section import Section


def json_schema() -> dict[str, Any]:
    """A schema for editors. Sections may be missing, since a `base:` can bring them."""
    schema = Config.model_json_schema(schema_generator=_WithDocstrings)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["$schema"] = {"type": "string", "description": "This schema, for editors."}
    schema["properties"]["base"] = {
        "type": "string",
        "description": "Another configuration to start from, by its path.",
    }
    schema.pop("required", None)
    return schema


class _WithDocstrings(GenerateJsonSchema):
    """Describes each field by the docstring below it."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of a section."""
        section = schema["cls"]
        found = super().model_schema(schema)
        docstrings = _field_docstrings(section)
        for name, field in section.model_fields.items():
            described = found.get("properties", {}).get(field.alias or name)
            if described is not None and name in docstrings:
                described.setdefault("description", docstrings[name])
        return found


def _field_docstrings(section: type[Section]) -> dict[str, str]:
    """The docstring below each field, by its name. Fields of base classes count too."""
    found: dict[str, str] = {}
    for base in reversed([base for base in section.__mro__ if issubclass(base, Section)]):
        try:
            [definition] = ast.parse(dedent(inspect.getsource(base))).body
        except OSError:  # put together from the stages
            continue
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return found
