"""Artifacts of a finished run, as far as the report reads them: manifests, metrics and a few JSON files."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.atomic import digest_json
from pipeline.engine.manifests import content_digest
from pipeline.telemetry.anatomy import (
    Alternative,
    Anatomy,
    Clip,
    Difference,
    Example,
    Loss,
    OptimizerStep,
    ShownBatch,
    Station,
    Token,
    Update,
    write_anatomy,
)
from pipeline.telemetry.verdicts import Evidence, Verdict

TOKENS = {"train": 482113, "validation": 24500, "test": 25120}
STAGES = ("ingest", "normalize", "curate", "augment", "tokenizer", "encode", "pack", "model", "train", "evaluate")
NUM_LAYERS = 12
LAYERS = ("embed_tokens", *(f"layers.{index}" for index in range(NUM_LAYERS)), "norm", "lm_head")

BLOCK_PARTS = (("attention", 262_144), ("mlp", 522_240), ("norms", 512))
PARTS = [
    {"name": "embed_tokens", "parameters": 1_048_576},
    *({"name": f"layers.{i}.{part}", "parameters": n} for i in range(NUM_LAYERS) for part, n in BLOCK_PARTS),
    {"name": "norm", "parameters": 256},
]
TOTAL = sum(int(str(part["parameters"])) for part in PARTS)


def figures(bits_per_byte: float, num_documents: int) -> dict[str, Any]:
    """Evaluation figures of one group of documents."""
    return {
        "loss": 3.6125,
        "perplexity": 37.06,
        "bits_per_byte": bits_per_byte,
        "token_accuracy": 0.3471,
        "tokens": num_documents * 58,
        "bytes": num_documents * 230,
        "documents": num_documents,
        "intervals": {"bits_per_byte": [0.97 * bits_per_byte, 1.03 * bits_per_byte], "token_accuracy": [0.33, 0.36]},
    }


def health(kind: str, what: str, verdict: str, words: str) -> dict[str, Any]:
    """A verdict of a training."""
    remedy = "" if verdict == "healthy" else "lower train.learning_rate"
    return Verdict(kind, what, verdict, Evidence(100, words), remedy, "calibrated", 80).as_json()


def summaries() -> dict[str, dict[str, Any]]:
    """What each stage's `run` returned."""
    both = {"python_docs": {"documents": 7723, "bytes": 2061234}, "essays": {"documents": 61, "bytes": 212345}}
    return {
        "ingest": {
            "documents_out": 7784,
            "bytes_out": 2273579,
            "rejected": {"invalid_utf8": 3, "malformed_json": 12},
            "sources": both,
        },
        "normalize": {
            "documents_in": 7784,
            "documents_out": 7784,
            "bytes_in": 2273579,
            "bytes_out": 2251002,
            "changed": {"fix_unicode": 41, "collapse_whitespace": 3122, "control_characters": 7},
            "sources": both,
        },
        "curate": {
            "documents_in": 7784,
            "documents_out": 5471,
            "bytes_in": 2251002,
            "bytes_out": 1950331,
            "dropped": {"too_short": 1630, "repeats an earlier document": 655, "low_letter_ratio": 26, "too_long": 2},
            "near_duplicates": {"dropped": 0, "clusters": 230, "documents_in_clusters": 812, "largest_cluster": 12},
            "leakage": {
                "validation": {
                    "documents": 263,
                    "compared": 251,
                    "overlapping": 2,
                    "share": 0.007968,
                    "runs_in_train": 0.0123,
                },
            },
            "benchmarks": {"quiz": {"texts": 1119, "too_short": 17, "rejected": 3}},
            "splits": {
                "train": {"documents": 4931, "bytes": 1752044},
                "validation": {"documents": 263, "bytes": 98111},
                "test": {"documents": 277, "bytes": 100176},
            },
            "sources": {
                "python_docs": {"documents": 5420, "bytes": 1802331},
                "essays": {"documents": 51, "bytes": 148000},
            },
        },
        "augment": {
            "documents_in": 4931,
            "documents_out": 5424,
            "bytes_in": 1752044,
            "bytes_out": 1931870,
            "changed": {"altered copies": 493, "copies with synonym": 310, "copies with keyboard": 183},
        },
        "tokenizer": {"vocab_size": 4096, "bytes_per_token": 3.87},
        "encode": {"splits": {split: {"tokens": count} for split, count in TOKENS.items()}},
        "pack": {
            "splits": {
                split: {"windows": math.ceil((count - 1) / 256), "target_tokens": count - 1}
                for split, count in TOKENS.items()
            }
        },
        "model": {
            "architecture": "llama",
            "vocab_size": 4096,
            "total": TOTAL,
            "trainable": TOTAL,
            "parts": PARTS,
            "health": [
                health("gradients", "vanishing_gradients_at_the_start", "critical", "layers.0: the gradient is zero"),
            ],
            "start": {
                "loss": 8.33,
                "uniform_loss": 8.31777,
                "layers": {
                    f"layers.{i}": {
                        "activation_rms": 0.021 * (i + 1),
                        "grad_norm": 0.37 if i else None,
                    }
                    for i in range(NUM_LAYERS)
                },
            },
        },
        "train": {
            "steps": 300,
            "target_tokens": 2457600,
            "epochs": 3.41,
            "final_loss": 3.52,
            "eval_loss": 3.61,
            "seconds": 173.4,
            "tokens_per_second": 14173.0,
            "mfu": 0.5714,
            "peak": {"flops_per_second": 375.4e9, "kind": "measured", "source": "bfloat16 products"},
            "precision": "bf16, natively",
            "parameters": TOTAL,
            "resumed_from_steps": [],
            "health": [health("loss", "loss", "healthy", "the training loss is 3.52; guessing evenly costs 8.318")],
            "layers": {
                name: {"grad_norm": 0.11 + i / 90, "param_norm": 11.3 + i, "update_ratio": 1.1e-3}
                for i, name in enumerate(LAYERS)
            },
            "library_versions": {"torch": "2.13.0", "accelerate": "1.15.0"},
        },
        "evaluate": {
            "test": figures(2.0812, 277),
            "sources": {"python_docs": figures(2.0431, 270), "essays": figures(2.6127, 7)},
            "baselines": {
                "unigram": {
                    "bits_per_byte": 2.68,
                    "difference": [-0.63, -0.57],
                    "what": "token frequencies of the training split, add-one smoothed",
                },
                "xz": {
                    "bits_per_byte": 2.2104,
                    "difference": [-0.19, -0.07],
                    "what": "xz -9 of the held-out documents joined into one file",
                },
                "xz_primed": {
                    "bits_per_byte": 1.651,
                    "difference": [0.37, 0.49],
                    "what": "the same after the training text, whose size is taken off",
                },
            },
            "by_position": [
                {"from": 1, "to": 1, "loss": 6.1, "tokens": 62},
                {"from": 2, "to": 3, "loss": 5.2, "tokens": 124},
            ],
            "by_frequency": [
                {"group": 0, "kinds": 3, "loss": 1.1, "tokens": 1500},
                {"group": 10, "kinds": 40, "loss": 9.9, "tokens": 2},
            ],
            "calibration": {"error": 0.031, "bins": [{"confidence": 0.21, "accuracy": 0.254, "predictions": 9123}]},
            "worst_documents": [
                {
                    "bits_per_byte": 5.123,
                    "id": "1",
                    "source": "essays",
                    "origin": "a.txt#7",
                    "bytes": 812,
                    "text": "<Oh>",
                }
            ],
            "samples": [
                {
                    "prompt": "Return the",
                    "text": " <b>number</b> of bytes & the size of the file.\n\n    It is the same.",
                },
                {
                    "prompt": "<script>alert(1)</script>",
                    "text": " is not run </div> by the report.\n" + "Words go on. " * 40,
                    "copied": {"tokens": 12, "of": 60, "text": "a copied <run>"},
                    "settings": {"max_new_tokens": 64, "temperature": 0.8, "top_k": 50, "seed": 18},
                },
            ],
        },
    }


SECTIONS: dict[str, dict[str, Any]] = {
    "ingest": {
        "sources": [
            {"name": "python_docs", "kind": "python_docs"},
            {"name": "essays", "path": "data/*.txt"},
        ]
    },
    "normalize": {"fix_unicode": True, "form": "NFC", "lowercase": False},
    "curate": {"min_characters": 40, "max_characters": 100000, "validation_share": 0.05, "test_share": 0.05},
    "augment": {"share": 0.1, "operations": ["synonym", "keyboard"]},
    "tokenizer": {"vocab_size": 4096},
    "encode": {},
    "pack": {"block_size": 256},
    "model": {
        "task": "causal_lm",
        "architecture": "llama",
        "config": {"hidden_size": 256, "num_hidden_layers": NUM_LAYERS},
    },
    "train": {
        "max_steps": 300,
        "num_train_epochs": None,
        "global_batch_size": 32,
        "optim": "adamw_torch_fused",
        "learning_rate": 0.003,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 30,
        "weight_decay": 0.1,
        "adam_beta1": 0.9,
        "momentum": 0.9,
        "max_grad_norm": 1.0,
        "mixed_precision": "bf16",
    },
    "evaluate": {"max_new_tokens": 64},
}
RUNTIME = {"train": {"per_device_train_batch_size": 16, "logging_steps": 1, "save_steps": 100}}
SECONDS = dict(zip(STAGES, (3.1, 2.2, 1.4, 9.6, 4.4, 2.9, 0.08, 6.2, 181.0, 22.5), strict=True))


def metrics_lines(num_steps: int, *, layers: bool = True, eval_steps: int = 50) -> Iterator[str]:
    """Lines of metrics.jsonl of a plausible training, one for each step."""
    draw = random.Random(0)
    for step in range(1, num_steps + 1):
        progress = step / num_steps
        rate = 3e-3 * min(1.0, progress / 0.1) * (0.55 + 0.45 * math.cos(math.pi * progress))
        loss = 3.45 + 4.9 * math.exp(-9 * progress) + draw.gauss(0, 0.07)
        norm = 0.5 + 3.5 * math.exp(-14 * progress) + abs(draw.gauss(0, 0.12)) + (4 if step == num_steps // 3 else 0)
        values: dict[str, Any] = {
            "step": step,
            "target_tokens": step * 8192,
            "seconds": round(step * 0.578, 3),
            "train/loss": loss,
            "train/learning_rate": rate,
            "throughput/tokens_per_second": 14170 + draw.gauss(0, 300),
            "train/grad_norm": norm,
            "train/grad_norm_clipped": min(1.0, norm),
            "train/clipped_share": float(norm > 1),
            "time/data_seconds": 0.004 + abs(draw.gauss(0, 0.002)),
            "time/forward_backward_seconds": 0.42 + draw.gauss(0, 0.01),
            "time/optimizer_seconds": 0.11 + draw.gauss(0, 0.003),
            "time/rest_seconds": 0.03,
            "embedding/never_updated_rows": 150.0,
            "embedding/never_updated_share": 150 / 4096,
        }
        for index, layer in enumerate(LAYERS if layers else ()):
            own = norm / (1 + index / 4) * math.exp(draw.gauss(0, 0.15))
            weight, ratio = 11.3 + index, rate * (0.3 + index / 20) * math.exp(draw.gauss(0, 0.1))
            norms = {"grad_norm": own, "weight_norm": weight, "update_norm": ratio * weight}
            values |= {f"matrices/{layer}/{figure}": norm for figure, norm in norms.items()}
        if step % eval_steps == 0 or step == num_steps:
            values |= {"eval/loss": loss + 0.09, "eval/perplexity": math.exp(loss + 0.09)}
        yield json.dumps(values) + "\n"


MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj")
NUM_EXPERTS = 8


def mixture_lines(num_steps: int) -> Iterator[str]:
    """Lines of metrics.jsonl of a mixture of experts, with figures by matrix, from a probe and by expert. In the last
    layer one expert gets no token."""
    draw = random.Random(1)
    for line in metrics_lines(num_steps, layers=False):
        values = json.loads(line)
        for layer in range(NUM_LAYERS):
            for place, matrix in enumerate(MATRICES):
                norm = values["train/grad_norm"] / (1 + layer / 3 + place) * math.exp(draw.gauss(0, 0.1))
                norms = {"grad_norm": norm, "weight_norm": 11.0, "update_norm": 0.01}
                values |= {f"matrices/layers.{layer}.{matrix}/{figure}": one for figure, one in norms.items()}
            for module in ("self_attn", "block_sparse_moe"):
                values[f"probe/layers.{layer}.{module}/out_grad_norm"] = (
                    1e-3 * 0.9**layer * math.exp(draw.gauss(0, 0.1))
                )
                values[f"probe/layers.{layer}.{module}/out_rms"] = 1 + 0.2 * layer + abs(draw.gauss(0, 0.1))
            values[f"attention/layers.{layer}/entropy_mean"] = max(0.01, 1 - values["step"] / num_steps)
            loads = [math.exp(draw.gauss(0, 0.2)) for _ in range(NUM_EXPERTS)]
            loads[3] *= layer < NUM_LAYERS - 1
            loads = [load * NUM_EXPERTS / sum(loads) for load in loads]
            values |= {f"experts/layers.{layer}/load_{expert}": load for expert, load in enumerate(loads)}
            values |= {f"experts/layers.{layer}/load_{what}": f(loads) for what, f in (("least", min), ("most", max))}
        yield json.dumps(values) + "\n"


def mixture_changes() -> dict[str, dict[str, Any]]:
    """What is otherwise in the summaries of a mixture of experts whose attention is frozen."""
    sizes = (
        ("norms", 512, 512),
        ("attention", 262_144, 0),
        ("router", 2_048, 2_048),
        ("experts", 4_177_920, 4_177_920),
    )
    parts = [{"name": "embed_tokens", "parameters": 1_048_576, "trainable": 1_048_576}]
    parts += [
        {"name": f"layers.{layer}.{part}", "parameters": size, "trainable": trained}
        for layer in range(NUM_LAYERS)
        for part, size, trained in sizes
    ]
    total, trainable = (sum(int(str(part[key])) for part in parts) for key in ("parameters", "trainable"))
    facts = {"guess_loss": 8.318, "frequency_loss": 6.402}
    bins = [
        {"confidence": (place + 0.5) / 15, "accuracy": (place + 0.3) / 15, "predictions": 4000 // (place + 1)}
        for place in range(15)
    ]
    return {
        "model": {"parts": parts, "total": total, "trainable": trainable},
        "train": {"facts": facts},
        "evaluate": {"calibration": {"error": 0.0133, "bins": bins}},
    }


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with the digest and the seal that fit it."""
    whole = {name: value for name, value in manifest.items() if name != "seal"}
    whole["digest"] = content_digest(whole["files"])
    (folder / "manifest.json").write_text(json.dumps({**whole, "seal": digest_json(whole)}))


def labelled_changes() -> dict[str, dict[str, Any]]:
    """What is otherwise in the summaries of a run of a classification."""
    own = {"accuracy": 0.812, "f1_macro": 0.79, "loss": 0.41, "documents": 40, "intervals": {"accuracy": [0.67, 0.90]}}
    majority = {"accuracy": 0.6, "f1_macro": 0.375, "difference": [0.02, 0.40], "what": "always 'a'"}
    left_out = {"label not in the training split": 3}
    return {
        "pack": {"classes": ["a", "b"]},
        "evaluate": {
            "task": "classification",
            "test": own,
            "sources": {"python_docs": own},
            "baselines": {"majority_class": majority},
            "samples": [],
            "left_out": left_out,
        },
    }


def lost_text_changes() -> dict[str, dict[str, Any]]:
    """What is otherwise in the summaries of a language model whose tokenizer loses text."""
    example = {"text": "In <1948>", "comes_back_as": "in <1948>"}
    lost = {"documents": 277, "lost_documents": 3, "lost_first_spaces": 0, "example": example}
    lost |= {"characters": 900, "lost_characters": 7}
    own = {key: value for key, value in figures(0, 277).items() if key != "bits_per_byte"}
    return {
        "encode": {"round_trip": {"test": lost}, "tokenizer_adds": {"before": ["<s>"], "after": ["</s>"]}},
        "evaluate": {
            "test": own,
            "sources": {"python_docs": own},
            "baselines": {},
            "withheld": {"bits_per_byte": "the tokenizer loses text"},
        },
    }


def make_run(
    root: Path, num_steps: int = 300, changes: dict[str, dict[str, Any]] | None = None, task: str = "causal_lm"
) -> dict[str, Path]:
    """Write the ten artifacts below `root`; `changes` replaces keys of stages' summaries (None removes one)."""
    folders = {}
    made = summaries()
    for index, stage in enumerate(STAGES):
        folders[stage] = folder = root / stage / f"{index:016x}"
        folder.mkdir(parents=True)
        summary = {**made[stage], **(changes or {}).get(stage, {})}
        manifest: dict[str, Any] = {
            "format": 1,
            "stage": stage,
            "version": 1,
            "section": {**SECTIONS[stage], **({"task": task} if stage == "model" else {})},
            "seed": 17 if stage == "train" else None,
            "inputs": {},
            "files_in": {},
            "libraries": {"tokenizers": "0.23.3"} if stage in ("tokenizer", "encode") else {},
            "key": f"{index:016x}",
            "runtime": RUNTIME.get(stage, {}),
            "input_keys": {},
            "files": {
                "payload": {"size": 1234567 * (index + 1), "sha256": "0" * 64, "kind": "result"},
                "log.txt": {"size": 812, "sha256": "0" * 64, "kind": "record"},
            },
            "summary": {key: value for key, value in summary.items() if value is not None},
            "started": 1750000000.0 + 60 * index,
            "seconds": SECONDS[stage],
            "descent": "0.1.0",
            "python": "3.11.9",
            "platform": "Linux-6.1-x86_64",
        }
        write_manifest(folder, manifest)
    for stage in ("model", "train"):
        (folders[stage] / "model").mkdir()
        (folders[stage] / "model/config.json").write_text(
            json.dumps(
                {
                    "architectures": ["LlamaFor" + ("CausalLM" if task == "causal_lm" else "SequenceClassification")],
                    "model_type": "llama",
                    "num_hidden_layers": NUM_LAYERS,
                    "hidden_size": 256,
                    "num_attention_heads": 8,
                    "num_key_value_heads": 8,
                    "vocab_size": 4096,
                }
            )
        )
    (folders["train"] / "metrics.jsonl").write_text("".join(metrics_lines(num_steps)))
    for step in (0, 10, 100, 200, num_steps):
        write_anatomy(folders["train"], fake_anatomy(step, 4, task))
    return folders


def fake_anatomy(step: int, num_layers: int = NUM_LAYERS, task: str = "causal_lm", formula: str = "adamw") -> Anatomy:
    """A plausible anatomy of a step. `formula` is that of the optimizer."""
    token = Token(17, " <b>the</b>")
    is_number = task == "regression"
    stations = [Station("embed_tokens", "embedding", [1, 128, 256], 0.1, 0.4, 0.03, None, loss_here=9.8765)]
    for layer in range(num_layers):
        shape = [1, 128, 256]
        stations += [
            Station(f"layers.{layer}.self_attn", "attention", shape, 0.5 + layer, 3.1, 0.0123, None, None, 0.71),
            Station(f"layers.{layer}.mlp", "mlp", shape, 1.5 + layer, 4.1, 0.0456, None, 0.03),
            Station(
                f"layers.{layer}",
                "block",
                shape,
                2.5 + layer,
                9.1,
                0.07 / (layer + 1),
                0.93 + layer / 100,
                loss_here=4.9571 + (num_layers - 1 - layer) / 8,
            ),
        ]
    stations += [
        Station("norm", "norm", [1, 128, 256], 1.01, 3.9, 0.0789, None),
        Station("lm_head", "head", [1, 128, 4096], 2.34, 17.5, 0.00567, None),
    ]
    example = Example(
        before="Return the <script>number",
        target=None if is_number else token,
        wanted=1.25 if is_number else None,
        output=3.9577,
        log_normalizer=None if is_number else 8.9267,
        loss=4.969,
        by_hand=-0.0038791,
        by_autograd=-0.0038792,
        likeliest=[] if is_number else [Alternative(token, 0.1069), Alternative(Token(3, "\n"), 0.04)],
    )
    loss = Loss(
        formula="squared_error" if is_number else "cross_entropy",
        settings={},
        by_hand=4.9571,
        parts={"router": 0.04738},
        objective=5.00448,
        by_torch=5.004481,
        guess=None if is_number else 8.31777,
        examples=[example] * 3,
        num_outputs=1 if is_number else 4096,
        gradient_norm=0.0602,
        gradient_difference=6.5e-8,
    )
    differences = [
        Difference("layers.0.self_attn.q_proj", [3, 14], 0.0853, 0.039943, 0.0399426, 5.00448865, 5.00448785, 1e-5)
    ]
    worked = {
        "adamw": (
            {"lr": 0.00293, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1},
            {"exp_avg": 0.00040037, "exp_avg_sq": 1.2292e-6, "step": 325.0},
            {"t": 326.0, "mean": 0.0043546, "square": 8.0938e-5, "mean_corrected": 0.0043547,
             "square_corrected": 8.0939e-5, "step": 0.0014202, "decay": 2.5e-5},
        ),
        "sgd": (
            {"lr": 0.05, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.01},
            {"momentum_buffer": 0.0321},
            {"with_decay": 0.040796, "momentum": 0.069686},
        ),
        "": ({}, {}, {}),
    }[formula]  # fmt: skip
    update = Update(
        parameter="layers.0.self_attn.q_proj",
        index=[3, 14],
        weight=0.0853,
        gradient=0.039943,
        formula=formula or None,  # type: ignore[arg-type]
        settings=worked[0],
        state=worked[1],
        worked=worked[2],
        by_hand=-0.0014452 if formula else None,
        by_optimizer=-0.00144519,
        rounding=7.45e-9,
        method={"adamw": "AdamW", "sgd": "SGD", "": "PagedLion8bit"}[formula],
    )
    return Anatomy(
        format=1,
        step=step,
        task=task,
        num_parameters=TOTAL,
        num_trainable=TOTAL,
        batch=ShownBatch(1, 128, 128, [token] * 24),
        stations=stations,
        loss=loss,
        differences=differences,
        no_differences="",
        update=OptimizerStep(
            optimizer="adamw_torch_fused",
            learning_rate=0.00293,
            rate_of_step=step + 1,
            is_last_rate=False,
            clip=Clip(1.3913, 1.0, 0.71875, 0.718749, {}),
            updates=[update],
            predicted_change=-0.482,
            after=4.6637,
        ),
        no_update="",
    )
