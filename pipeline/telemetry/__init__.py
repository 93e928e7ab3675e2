"""Seeing learning: gradients, weights and updates of every layer, measured and judged."""
