from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import Distillation
from limbeck.checkpoints.reading.files import read_file
from limbeck.checkpoints.reading.parts import merged
from limbeck.checkpoints.reading.pickles import write_pickle
from limbeck.methods import KD


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def pair() -> Distillation:
    student = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    return Distillation(student, teacher, {"kd": KD()}, example=torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("around", ["", "pair."])
def test_the_student_comes_out_of_a_distillation(around: str, tmp_path: Path) -> None:
    distillation = pair()
    expected = distillation.student.state_dict()
    average = {name: value + 1 for name, value in expected.items()}
    state = {f"{around}{name}": value for name, value in distillation.state_dict().items()}
    state |= {f"{around}methods.kd.adapter.weight": torch.ones(1)}
    checkpoint = {
        "pytorch-lightning_version": "2",
        "state_dict": state,
        "callbacks": {"MovingAverage": {"steps": 3, "average": average}, "Other": {"best": 0.5}},
        "global_step": 3,
    }
    path = save(checkpoint, tmp_path / "last.ckpt")
    contents = read_file(path, part="student")
    assert contents.tensors.keys() == expected.keys()
    assert all(torch.equal(contents.tensors[name], expected[name]) for name in expected)
    assert (contents.part, contents.parts) == ("student", ("student", "average"))
    assert contents.prefix == f"{around}student."
    assert contents.metadata["global_step"] == 3
    left = {f"{around}_extra_state", f"{around}methods.kd.adapter.weight"}
    assert left <= set(contents.set_aside)
    scored = read_file(path)  # the average is what was scored, and what training exports
    assert scored.part == "average"
    assert all(torch.equal(scored.tensors[name], average[name]) for name in expected)
    bare = read_file(save(state, tmp_path / "state.pth"))
    assert bare.tensors.keys() == expected.keys()
    assert bare.parts == ("student",)


TEACHER = {"backbone.bottom_up.stem.conv1.weight": torch.ones(2), "head.bias": torch.zeros(1)}
TRUNK = {"stem.conv1.weight": torch.full((2,), 3.0), "res2.0.conv1.weight": torch.ones(1)}


@pytest.mark.parametrize("whole", [True, False])
def test_a_merged_file_of_mgd_and_its_two_parts(whole: bool, tmp_path: Path) -> None:
    student = {f"backbone.bottom_up.{name}": value for name, value in TRUNK.items()}
    given = student | {"head.bias": torch.ones(1)} if whole else TRUNK
    path = tmp_path / "merged.pkl"
    write_pickle(path, merged(TEACHER, given), matching_heuristics=True)
    for part, expected in {"teacher": TEACHER, "student": student}.items():
        contents = read_file(path, part=part)
        assert contents.tensors.keys() == expected.keys()
        assert all(torch.equal(contents.tensors[name], expected[name]) for name in expected)
        assert contents.prefix == {"teacher": "t_net.", "student": "s_net."}[part]
    with pytest.raises(ValueError, match="several sets of weights: teacher, student"):
        read_file(path)


def test_what_a_training_of_mgd_adds_belongs_to_neither(tmp_path: Path) -> None:
    added = {"BNs.0.weight": torch.ones(1), "margin0": torch.ones(1)}
    kept = {"model": {f"module.{k}": v for k, v in (merged(TEACHER, TRUNK) | added).items()}}
    contents = read_file(save(kept, tmp_path / "model_final.pth"), part="student")
    assert contents.prefix == "module.s_net."
    assert contents.set_aside == tuple(added)


def test_a_student_without_a_backbone_cannot_be_merged() -> None:
    ours: dict[str, Tensor] = {"conv1.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"no tensors of stem.*found \['conv1\.weight'\]"):
        merged(TEACHER, ours)
