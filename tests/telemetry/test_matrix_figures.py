from __future__ import annotations

import pytest

from pipeline.telemetry.matrix_figures import figures_by_layer, in_folders, with_layers

RECORD = {
    "step": 3,
    "train/loss": 2.0,
    "matrices/layers.0.self_attn.q_proj/grad_norm": 3.0,
    "matrices/layers.0.self_attn.q_proj/weight_norm": 6.0,
    "matrices/layers.0.self_attn.q_proj/update_norm": 0.6,
    "matrices/layers.0.self_attn.q_proj/step_norm": 0.5,
    "matrices/layers.0.norm/grad_norm": 4.0,
    "matrices/layers.0.norm/weight_norm": 8.0,
    "matrices/layers.0.norm/update_norm": 0.8,
    "matrices/lm_head.bias/grad_norm": 1.0,
    "matrices/lm_head.bias/weight_norm": 0.0,
    "matrices/lm_head.bias/update_norm": 0.1,
}


def test_a_layer_is_the_root_of_its_matrices_squares():
    assert figures_by_layer(RECORD) == {
        "layers.0": {"grad_norm": 5.0, "param_norm": 10.0, "update_ratio": pytest.approx(0.1)},
        "lm_head": {"grad_norm": 1.0, "param_norm": 0.0, "update_ratio": 0.0},
    }


def test_charts_get_layers_in_the_place_of_matrices():
    shown = with_layers(RECORD)
    assert {tag for tag in shown if "/" not in tag or tag.startswith("train/")} == {"step", "train/loss"}
    assert not [tag for tag in shown if tag.startswith("matrices/")]
    assert shown["layers/layers.0/update_ratio"] == pytest.approx(0.1)


def test_a_layer_is_a_folder_of_its_matrices():
    shown = in_folders({**RECORD, "experts/layers.0/load_most": 1.5, "matrices/lm_head/grad_norm": 2.0})
    rest = {"step": 3, "train/loss": 2.0, "experts/layers.0/load_most": 1.5}
    assert shown.items() >= rest.items()
    own = {"grad_norm", "param_norm", "update_ratio"}
    of_q_proj = {f"self_attn.q_proj/{figure}" for figure in ("grad_norm", "weight_norm", "update_norm", "step_norm")}
    of_norm = {f"norm/{figure}" for figure in ("grad_norm", "weight_norm", "update_norm")}
    folder = {tag.removeprefix("layers.0/"): value for tag, value in shown.items() if tag.startswith("layers.0/")}
    assert folder.keys() == own | of_q_proj | of_norm
    assert (folder["grad_norm"], folder["norm/weight_norm"]) == (5.0, 8.0)
    # A matrix called as its layer, and the bias beside it.
    assert (shown["lm_head/weight/grad_norm"], shown["lm_head/bias/grad_norm"]) == (2.0, 1.0)
    assert shown["lm_head/grad_norm"] == pytest.approx(5**0.5)
    alone = {f"matrices/norm/{figure}": 2.0 for figure in ("grad_norm", "weight_norm", "update_norm")}
    assert in_folders(alone).keys() == {
        "norm/weight/grad_norm", "norm/weight/weight_norm", "norm/weight/update_norm", "norm/update_ratio"
    }  # fmt: skip


@pytest.mark.parametrize("value", [None, "1", [1.0], float("nan"), float("inf"), -1.0, 10**400])
def test_what_is_no_norm_is_passed_over(value):
    assert figures_by_layer({"matrices/norm/grad_norm": value, "matrices/head/grad_norm": 2.0}) == {
        "head": {"grad_norm": 2.0}
    }
