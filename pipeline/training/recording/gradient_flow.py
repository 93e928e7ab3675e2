"""A picture of how the gradient comes through the layers of a model as it is trained."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.telemetry.matrix_figures import figures_by_layer

MOST_COLUMNS, MOST_LAYERS = 240, 200
WIDTH, ROW, GAP, MARGIN, LETTER = 400, 16, 1, 6, 6
"""In pixels, about those of a card; GAP is between two rows, LETTER the width of one."""

PAPER, INK, NOTHING = (255, 255, 255), (40, 40, 40), (225, 225, 225)
COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64)
"""From the smallest norm to the largest: matplotlib's viridis at five places, which is as even in grey."""


class GradientFlow:
    """The norm of each layer's gradient at the measured steps. Of a long training every second of them is dropped when
    there are too many, by their order alone, so that the picture of a resumed training is that of a whole one."""

    def __init__(self) -> None:
        self._columns: list[tuple[int, dict[str, float]]] = []
        self._seen, self._stride = 0, 1

    def add(self, record: Mapping[str, Any]) -> None:
        """Take the norms of a record, if it has some."""
        norms = {name: found["grad_norm"] for name, found in figures_by_layer(record).items() if "grad_norm" in found}
        if not norms:
            return
        if self._seen % self._stride == 0:
            self._columns.append((record["step"], norms))
        self._seen += 1
        if len(self._columns) > MOST_COLUMNS:
            self._columns, self._stride = self._columns[::2], 2 * self._stride

    def picture(self) -> bytes | None:
        """A PNG file: a row for each layer, from input to output, a column for each measured step, and the logarithm of
        the norm as colour. None where nothing was measured, or too many layers for rows that can be told apart."""
        layers = list(dict.fromkeys(name for _, norms in self._columns for name in norms))
        norms = np.array([[norms.get(layer, 0.0) for _, norms in self._columns] for layer in layers])
        if not norms.any() or len(layers) > MOST_LAYERS:
            return None
        low, high = math.log10(norms[norms > 0].min()), math.log10(norms.max())
        left, top, height = 2 * MARGIN + LETTER * max(map(len, layers)), 2 * ROW, ROW * len(layers)
        width = max(1, (WIDTH - left - MARGIN) // len(self._columns))
        image = Image.new("RGB", (left + width * len(self._columns) + MARGIN, top + height + 2 * ROW), PAPER)
        colours = _colours(norms, low, high).repeat(ROW - GAP, axis=0).repeat(width, axis=1)
        draw = ImageDraw.Draw(image)
        draw.text((MARGIN, MARGIN), "norm of the gradient by layer, before clipping", INK)
        for row, layer in enumerate(layers):
            y = top + row * ROW
            draw.text((MARGIN, y + 2), layer, INK)
            image.paste(Image.fromarray(colours[row * (ROW - GAP) : (row + 1) * (ROW - GAP)]), (left, y))
        y = top + height + 2
        draw.text((left, y), f"step {self._columns[0][0]:,}", INK)
        draw.text((left + width * len(self._columns), y), f"{self._columns[-1][0]:,}", INK, anchor="ra")
        scale = np.logspace(low, high, 100)[None].repeat(ROW - GAP - 4, axis=0)
        draw.text((left, y + ROW), f"{10**low:.1e}", INK)
        image.paste(Image.fromarray(_colours(scale, low, high)), (left + 60, y + ROW + 2))
        draw.text((left + 168, y + ROW), f"{10**high:.1e}", INK)
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()


def _colours(norms: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """The colour of each norm, by its decimal logarithm between `low` and `high`, shape (..., 3)."""
    logarithms = np.log10(np.where(norms > 0, norms, 1.0))
    places = (logarithms - low) / max(high - low, 1e-9) * (len(COLOURS) - 1)
    mixed = np.stack([np.interp(places, range(len(COLOURS)), column) for column in COLOURS.T], axis=-1)
    return np.where(norms[..., None] > 0, mixed, NOTHING).astype(np.uint8)
