from pathlib import Path

import pytest
import torch

from limbeck.methods import KD, MGD
from limbeck.training.matching import MatchingPictures
from limbeck.training.module import DistillationModule
from tests import tiny_models
from tests.training import tiny_runs

PLACES = ["C3.pre", "C4.pre"]


def mgd(**options: object) -> MGD:
    return MGD(PLACES, images=8, every_epochs=1, **options)


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_every_place_is_drawn_after_each_validation(task: str, tmp_path: Path) -> None:
    make = tiny_models.classifier if task == "classification" else tiny_models.detector
    module = DistillationModule(
        make(0),
        make(1),
        {"mgd": mgd()},
        optimizer=tiny_runs.PLAIN_SGD,
        learning_rate=tiny_runs.STEADY,
    )
    tiny_runs.fit(module, tiny_runs.shapes(task, train=8), tmp_path, MatchingPictures(3))
    assert {path.name for path in (tmp_path / "matching").iterdir()} == {
        f"mgd_{place}_{what}.png" for place in ("C3_pre", "C4_pre") for what in ("flow", "maps")
    }


def test_methods_without_a_flow_are_not_drawn(tmp_path: Path) -> None:
    module = DistillationModule(tiny_models.classifier(0), tiny_models.classifier(1), {"kd": KD()})
    tiny_runs.fit(module, tiny_runs.shapes("classification", train=8), tmp_path, MatchingPictures())
    assert not (tmp_path / "matching").exists()


def test_a_resumed_run_has_its_flow(tmp_path: Path) -> None:
    def module() -> DistillationModule:
        return DistillationModule(
            tiny_models.classifier(0),
            tiny_models.classifier(1),
            {"mgd": mgd()},
            optimizer=tiny_runs.PLAIN_SGD,
            learning_rate=tiny_runs.STEADY,
        )

    first, second = module(), module()
    trainer = tiny_runs.fit(first, tiny_runs.shapes("classification"), tmp_path, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    tiny_runs.fit(
        second,
        tiny_runs.shapes("classification"),
        tmp_path,
        checkpoint=tmp_path / "last.ckpt",
        max_epochs=2,
    )
    flows = [m.pair.methods["mgd"].stages["C4_pre"].flow for m in (first, second)]
    assert torch.equal(*flows)
    assert second.pair.methods["mgd"].found_on == 8
