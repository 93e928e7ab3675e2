"""Load a trained model for evaluation."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from pipeline.modeling.bf16 import multiplies_bf16
from pipeline.modeling.build import load_model


def pick_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_trained(folder: Path, device: torch.device) -> PreTrainedModel:
    """The model of a Hugging Face folder in the precision in which it was saved, on `device`; in float32 where the
    device would only emulate bf16, many times slower."""
    return load_model(folder, dtype="auto" if multiplies_bf16(device) else torch.float32).to(device).eval()
