"""Verbs about configurations themselves."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON Schema of a configuration, for editors."""
    from pipeline.config.schema import json_schema

    print(json.dumps(json_schema(), indent=1, ensure_ascii=False))
