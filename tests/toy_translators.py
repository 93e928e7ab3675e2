"""Two Marian models of one layer that translate between two toy languages, word by word, trained on the spot."""

from __future__ import annotations

import json
import random
from pathlib import Path

WORDS = ["bado", "celu", "difa", "gomi", "hupa", "jeno", "kiru", "lasi", "mote", "nuva"]
OTHER_WORDS = ["zatik", "yelon", "xomar", "wupek", "vidas", "tofen", "sukil", "ragom", "qinet", "polud"]
"""What each is in the other language."""

LOST, KEPT = "peka", "bado"
"""A word whose translation is that of another one: it comes back as that."""

THERE = {**dict(zip(WORDS, OTHER_WORDS, strict=True)), LOST: OTHER_WORDS[WORDS.index(KEPT)]}
BACK = dict(zip(OTHER_WORDS, WORDS, strict=True))
LENGTHS = range(3, 8)
STEPS = 360


def sentence(words: list[str]) -> str:
    """Words with a capital letter and a mark."""
    return " ".join([words[0].capitalize(), *words[1:]]) + "."


def train_pair(folder: Path) -> tuple[Path, Path]:
    """The folders of both models, as transformers writes them."""
    return train(THERE, folder / "there"), train(BACK, folder / "back")


def train(cipher: dict[str, str], folder: Path) -> Path:
    """A model that puts the word of `cipher` in the place of each."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    generator = random.Random(0)
    tokenizer = _tokenizer(folder)
    pad = tokenizer.pad_token_id
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=32,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=pad,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
    )
    model = MarianMTModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=STEPS)
    known = list(cipher)
    there = {word: (_ids(tokenizer, word), _ids(tokenizer, word.capitalize())) for word in [*cipher, *cipher.values()]}

    def batch(drawn: list[list[str]]) -> torch.Tensor:
        rows = [
            [there[words[0]][1], *(there[word][0] for word in words[1:]), _ids(tokenizer, "a.")[-1:]] for words in drawn
        ]
        flat = [torch.tensor([*(index for word in row for index in word), tokenizer.eos_token_id]) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(flat, batch_first=True, padding_value=pad)

    for _ in range(STEPS):
        drawn = [[generator.choice(known) for _ in range(generator.choice(LENGTHS))] for _ in range(32)]
        sources, targets = batch(drawn), batch([[cipher[word] for word in words] for words in drawn])
        labels = targets.masked_fill(targets == pad, -100)
        loss = model(input_ids=sources, attention_mask=(sources != pad).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():  # what Marian begins a translation with
            model.get_input_embeddings().weight[pad] = 0
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _ids(tokenizer, word: str) -> list[int]:
    return tokenizer(word, add_special_tokens=False).input_ids


def _tokenizer(folder: Path):
    """Marian's tokenizer, for which each word of both languages is a token."""
    import sentencepiece
    from transformers import MarianTokenizer

    folder.mkdir(parents=True)
    texts = [sentence([one, other]) for one in [*THERE, *BACK] for other in [*THERE, *BACK]]
    (folder / "texts").write_text("\n".join(texts))
    size = 2 * len({*THERE, *BACK}) + 120
    for name in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "texts"),
            model_prefix=str(folder / name),
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (folder / f"{name}.model").rename(folder / f"{name}.spm")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    names = ["</s>", "<unk>", *(pieces.id_to_piece(index) for index in range(3, len(pieces))), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    return MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), model_max_length=32
    )
