"""Load a trained model for evaluation."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging


def pick_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(folder: Path, device: torch.device) -> PreTrainedModel:
    """The causal language model of a Hugging Face folder in the precision in which it was saved, on `device`."""
    with_bar = logging.is_progress_bar_enabled()
    # transformers' own bar says nothing of ours.
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
    finally:
        if with_bar:
            logging.enable_progress_bar()
    assert isinstance(model, PreTrainedModel)
    return model.to(device).eval()
