"""What records say about the inside of a model. Imports nothing heavy.

A record of `pipeline.telemetry.model_probe` holds:

* `probe/loss`, the mean loss of the rows it looks at;
* `probe/<module>/<figure>`: out_rms, the root mean square of its output; out_max, the largest absolute value over that;
  out_grad_norm, the norm of d(loss)/d(output). Of a block growth, the norm of a token's output over that of its input
  (the geometric mean: a few tokens of giant norm do not hide the others). Of an activation function dead_units and,
  where it is bounded, saturated_units: shares of its units;
* `attention/<layer>/<figure>`: entropy_mean over the heads and entropy_lowest_head, as parts of that of looking evenly;
  largest_logit;
* `experts/<layer>/<figure>`: load_least, load_most and load_<i>, over the even share; router_entropy, as a part of that
  of choosing evenly.

Where one of NOT_FINITE is not, a name of its own says so with 1 in its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.modeling.layer_names import is_block, layer_of_matrix

NEVER_UPDATED, NEVER_UPDATED_SHARE = "embedding/never_updated_rows", "embedding/never_updated_share"
"""Of the rows of the token embedding those of `pipeline.telemetry.input_rows`, and their share."""

PROBE, ATTENTION, EXPERTS = "probe/", "attention/", "experts/"

NOT_FINITE = {
    "loss": "loss_not_finite",
    "out_rms": "out_not_finite",
    "out_grad_norm": "out_grad_not_finite",
    "largest_logit": "logit_not_finite",
}
"""What is told of a figure that is infinite or no number."""

FEWEST_TOKENS = 512
"""On fewer, units that are rarely active look dead."""


def figure_by_module(record: Mapping[str, float], part: str, figure: str) -> dict[str, float]:
    """One figure of all modules that a record has it of, from input to output; `part` is PROBE, ATTENTION or
    EXPERTS."""
    end = f"/{figure}"
    return {
        tag[len(part) : -len(end)]: value for tag, value in record.items() if tag.startswith(part) and tag.endswith(end)
    }


def figure_by_block(record: Mapping[str, float], figure: str) -> dict[str, float]:
    """One figure of the numbered blocks that the probe has it of, from input to output."""
    found = figure_by_module(record, PROBE, figure)
    return {name: value for name, value in found.items() if is_block(name) and layer_of_matrix(name) == name}
