"""Readers of sources: one module per group of formats, and `tasks`, which shares the files out and picks the reader."""
