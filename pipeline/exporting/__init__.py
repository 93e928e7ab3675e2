"""Exported models in the formats of other engines."""

OUTTYPES = ("f32", "f16", "bf16", "q8_0")
"""Types of weights in a GGUF file."""


def gguf_name(outtype: str) -> str:
    """Name of such a file in a run's folder."""
    return f"model-{outtype}.gguf"
