"""Tokenizer training, encoding, packing, and the reader of packed token streams."""
