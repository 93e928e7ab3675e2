from __future__ import annotations

import json
import os
import subprocess
import sys

from training.tiny import make_inputs, run_train

from pipeline.stages.train import STAGE

LOADS = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (auto.from_pretrained(sys.argv[1]) for auto in (AutoModelForCausalLM, AutoTokenizer))
prompt = tokenizer("w2 w3 w4", return_tensors="pt", return_token_type_ids=False)
ids = model.generate(**prompt, max_new_tokens=4, do_sample=False)
print(ids[0].tolist(), model.dtype, "pipeline" in sys.modules)
"""


def test_artifact_and_resume_point(tmp_path):
    inputs = make_inputs(tmp_path / "inputs")
    assert STAGE.checkpointing is not None
    assert STAGE.checkpointing.resume_point(tmp_path / "work") is None
    summary = run_train(inputs, tmp_path)
    output = tmp_path / "output"
    assert STAGE.checkpointing.resume_point(tmp_path / "work") == "step 12"
    assert json.loads((output / "training.json").read_text())["steps"] == 12
    assert (output / "metrics.jsonl").read_bytes() == (tmp_path / "work" / "metrics.jsonl").read_bytes()
    assert len(list((output / "tensorboard").iterdir())) == 1
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary

    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(output / "model")],
        cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ids, _, rest = done.stdout.partition("] ")
    assert ids.startswith("[2, 3, 4, ")
    assert rest.split() == ["torch.float32", "False"]
