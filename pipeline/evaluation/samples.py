"""Texts that a model writes, the same for the same seed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel

from pipeline.distributed.collectives import ALONE, Collectives, joined
from pipeline.errors import StorageError, panics_as_errors
from pipeline.evaluation.evaluate_config import SamplesConfig
from pipeline.evaluation.trained_model import load_trained, pick_device
from pipeline.modeling.inputs import context_length, evaluating
from pipeline.modeling.library_messages import one_line
from pipeline.modeling.sharding import is_sharded
from pipeline.tokens.template import Template
from pipeline.tokens.tokenizer_folder import load_tokenizer

OPENING = re.compile(r"\s*\S+(?:\s+\S+){0,7}")
OPENING_CHARS = 80


def openings(texts: Iterable[str], total: int, number: int) -> Iterator[tuple[str, str]]:
    """The first words of `number` of the `total` texts, evenly spaced: at most 8 words and 80 characters; and the rest
    of each text."""
    number = min(number, total)
    wanted = {index * total // number for index in range(number)}
    for index, text in enumerate(texts):
        if index in wanted:
            match = OPENING.match(text[: 10 * OPENING_CHARS])
            opening = match.group()[:OPENING_CHARS] if match else ""
            yield opening, text[len(opening) :]


def first_tokens(tokenizer: Tokenizer, text: str, number: int) -> str:
    """The text of the first `number` tokens of a text."""
    ends = [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets[:number]]
    return text[: max(ends, default=0)]


def write_samples(
    model: GenerationMixin,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    config: SamplesConfig,
    seed: int,
    *,
    eos_token_id: int,
    pad_token_id: int,
    device: torch.device,
    processes: Collectives = ALONE,
    goes_on: bool = False,
) -> Iterator[dict[str, Any]]:
    """Continue each prompt as the opening of a document: after what the tokenizer puts before every text, such as
    `<s>`, or else after an end-of-document token, which documents follow in training.

    Yields {"prompt", "text", "settings"}: `text` is the continuation alone, ended by the end of the document or by
    `config.max_new_tokens`. One prompt at a time and with a seed of its own, so that no prompt changes another's text.
    `settings` are those by which it can be written again; the seed is None where nothing is drawn.
    A prompt that fills more than half of the model's positions loses its beginning. torch's global random state is left
    as it was. Processes that hold parts of the model write every text together, others some each; each gets all.

    With `goes_on` a text that cannot be written is an "error" in words, and the others are written; but where processes
    write together, an error that one of them alone may have is raised.
    """
    positions = context_length(model)
    opening = Template.of(tokenizer).prefix or (eos_token_id,)
    devices = [device] if device.type == "cuda" else []

    def write(numbered: tuple[int, str]) -> dict[str, Any]:
        index, prompt = numbered
        ids = [*opening, *tokenizer.encode(prompt, add_special_tokens=False).ids]
        new_tokens = config.max_new_tokens
        if positions is not None:
            ids = ids[-max(1, positions // 2) :]
            new_tokens = min(new_tokens, positions - len(ids))
        input_ids = torch.tensor([ids], device=device)
        torch.manual_seed(seed + index)
        output = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=_generation_config(config, new_tokens, eos_token_id, pad_token_id),
            synced_gpus=are_together or None,
        )
        settings = {"max_new_tokens": new_tokens, "temperature": config.temperature, "top_k": config.top_k}
        return {
            "prompt": prompt,
            "text": continuation(tokenizer, ids, output[0, len(ids) :].tolist()),
            "settings": {**settings, "seed": seed + index if config.are_drawn else None},
        }

    def attempt(numbered: tuple[int, str]) -> dict[str, Any]:
        try:
            return write(numbered)
        except Exception as error:
            # Raised in one of several processes it would leave the others waiting.
            if not goes_on or (are_together and isinstance(error, RuntimeError)):
                raise
            return {"prompt": numbered[1], "error": one_line(error)}

    are_together = is_sharded(model)
    with evaluating(model), torch.random.fork_rng(devices):
        numbered = enumerate(prompts)
        yield from map(attempt, numbered) if are_together else processes.in_turns(numbered, attempt)


def continuation(tokenizer: Tokenizer, prompt: list[int], added: list[int]) -> str:
    """The text that ids add to a prompt's. Many decoders take a space away at the beginning of what they are given."""
    before, whole = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (prompt, prompt + added))
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(added, skip_special_tokens=True)


def continue_prompts(
    folder: Path, prompts: Sequence[str], config: SamplesConfig, seed: int
) -> Iterator[dict[str, Any]]:
    """`write_samples` with the model of a Hugging Face folder, as an exported run has it. All processes of the launch
    call it; the prompts are those of process 0.

    Raises StorageError when the folder, which a person may have edited, holds no model that can be loaded.
    """
    device = pick_device()
    with joined("generate", device) as processes:
        try:
            with panics_as_errors():
                model, tokenizer = load_trained(folder, device, processes.dims), load_tokenizer(folder)
        except Exception as error:
            # Libraries raise what they like for files that are not what they expect.
            raise StorageError(f"{folder}: cannot be loaded ({one_line(error)}); run again to make it anew") from error
        yield from write_samples(
            model,
            tokenizer,
            processes.broadcast(prompts),
            config,
            seed,
            eos_token_id=model.config.get_text_config().eos_token_id,
            pad_token_id=pad_token_id_of(model),
            device=device,
            processes=processes,
        )


def pad_token_id_of(model: PreTrainedModel) -> int:
    """The token that a model is padded with; of one that names none the end of a document."""
    text = model.config.get_text_config()
    token: int = text.eos_token_id if text.pad_token_id is None else text.pad_token_id
    return token


def _generation_config(
    config: SamplesConfig, new_tokens: int, eos_token_id: int, pad_token_id: int
) -> GenerationConfig:
    sampling = (
        {"do_sample": True, "temperature": config.temperature, "top_k": config.top_k or 0}
        if config.temperature > 0
        else {"do_sample": False}
    )
    return GenerationConfig(
        **sampling,
        max_new_tokens=new_tokens,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        suppress_tokens=[pad_token_id] if pad_token_id != eos_token_id else None,
    )
