"""Runs on two processes, one of which Lightning's own launcher starts where one is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.commands import killing, tiny_recipes


def matched() -> tiny_recipes.Recipe:
    """One step of Matching Guided Distillation, whose flow is found on 20 of 32 images."""
    recipe = tiny_recipes.classifier(max_epochs=-1, max_steps=1)
    network = {"network": {"depths": [1, 1, 1], "widths": [8, 16, 32]}, "num_classes": 5}
    places = ["C2.pre", "C3.pre", "C4.pre"]
    recipe["model"] |= {
        "teacher": {"class_path": "limbeck.models.Classifier", "init_args": network},
        "methods": {
            "mgd": {
                "class_path": "limbeck.methods.MGD",
                "init_args": {"places": places, "images": 20},
            }
        },
    }
    return recipe


def state(run: Path) -> dict[str, torch.Tensor]:
    path = run / "checkpoints" / "last.ckpt"
    loaded: dict[str, torch.Tensor] = torch.load(path, weights_only=False)["state_dict"]
    return loaded


@pytest.mark.slow
def test_two_processes_find_the_flow_of_one_over_the_same_images() -> None:
    tiny_recipes.fit(matched(), folder=Path("one"))
    two = matched()
    two["trainer"] |= {"devices": 2, "strategy": "ddp", "default_root_dir": "two"}
    recipe = tiny_recipes.write(Path("recipes"), "two", two)
    assert killing.limbeck("fit", "--config", recipe, processes=2) == [0, 0]
    flows = [
        {name: value for name, value in state(Path(run)).items() if name.endswith(".flow")}
        for run in ("one", "two")
    ]
    assert len(flows[0]) == 3
    assert flows[0].keys() == flows[1].keys()
    for name, flow in flows[0].items():
        assert torch.equal(flow, flows[1][name]), name
    found = [state(Path(run))["pair.methods.mgd._extra_state"] for run in ("one", "two")]
    assert found == [{"images": 20}] * 2


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_a_sentence() -> None:
    recipe = tiny_recipes.plain(devices=2, strategy="ddp", max_epochs=4, default_root_dir="run")
    recipe["trainer"]["callbacks"] = [{"class_path": "tests.commands.killing.Kill"}]
    path = str(tiny_recipes.write(Path("recipes"), "two", recipe))
    words = [sys.executable, "-m", "limbeck.cli", "fit", "--config", path]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "KILL": "SIGKILL@3",
        "KILL_RANK": "1",
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "ERROR another process of this run has ended" in done.stderr
    assert "Traceback" not in done.stderr
