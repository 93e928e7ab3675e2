"""The JSON Schema of a configuration, from the sections and their docstrings."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config


def json_schema() -> dict[str, Any]:
    """A schema for editors. Sections may be missing, since a `base:` can bring them."""
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["$schema"] = {"type": "string", "description": "This schema, for editors."}
    schema["properties"]["base"] = {
        "type": "string",
        "description": "Another configuration to start from, by its path.",
    }
    schema.pop("required", None)
    return schema
