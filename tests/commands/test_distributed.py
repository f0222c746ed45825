"""Runs on two processes, through the command line."""

from pathlib import Path

import pytest
import torch

from tests.commands import tiny
from tests.commands.test_resume import begin


def matched() -> tiny.Recipe:
    """One step of Matching Guided Distillation, whose flow is found on 20 of 32 images."""
    recipe = tiny.classifier(max_epochs=-1, max_steps=1)
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


def test_two_processes_find_the_flow_of_one_over_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = matched(), matched()
    two["trainer"] |= {"devices": 2, "strategy": "ddp"}
    begin(Path("one"), [one])
    begin(Path("two"), [two])
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
