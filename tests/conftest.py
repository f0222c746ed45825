"""Where the shared measurements and data are, and one thread a process."""

import gc
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

# Two spinning OpenMP threads on a busy machine make a step six times slower than one thread.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch
from torchvision.models import resnet, vgg

from limbeck import trunks
from limbeck.commands import VERBS
from limbeck.models.detection.c4 import trunks as c4_trunks
from tests.small_models import NarrowResNet

torch.set_num_threads(1)

# What tests start as processes are forks of one server that has these: importing takes seconds.
_VERBS = [verb.module for verb in VERBS]
multiprocessing.set_forkserver_preload(
    ["limbeck.cli", *_VERBS, "pytest", "hypothesis", "scipy.stats", "torch._dynamo"]
)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("limbeck", deadline=None)
hypothesis.settings.load_profile("limbeck")


def find_shared() -> Path | None:
    """The folder of golden numbers and small real datasets, or None where this clone has none.

    It stands beside the checkout as ``../shared``; ``LIMBECK_SHARED`` names another place.
    """
    named = os.environ.get("LIMBECK_SHARED")
    if named is None:
        beside = Path(__file__).resolve().parents[2] / "shared"
        return beside if (beside / "golden").is_dir() else None
    shared = Path(named)
    if not named or not (shared / "golden").is_dir():
        pytest.exit(
            f"LIMBECK_SHARED is set to {named!r}, where there is no folder 'golden'. "
            "Set it to the folder that holds golden/ and data/, or unset it to skip those tests.",
            returncode=4,
        )
    return shared


SHARED = find_shared()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared folder; the test is skipped where there is none."""
    if SHARED is None:
        pytest.skip("needs ../shared (golden numbers and small datasets), which this clone lacks")
    return SHARED


def pytest_collection_finish() -> None:
    """Libraries hold a million objects, through which every collection would go in vain."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture
def narrow_vggs(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGGs a 32nd as wide as they are: fc6 alone would have 100 million values."""
    for config, widths in vgg.cfgs.items():
        narrow = [width if width == "M" else width // 32 for width in widths]
        monkeypatch.setitem(vgg.cfgs, config, narrow)
        for name, trunk in trunks.VGGS.items():
            if [*trunk.config] == widths:
                monkeypatch.setitem(trunks.VGGS, name, trunks.vgg(*narrow))
    monkeypatch.setattr(c4_trunks, "VGG_WIDTH", 32)


@pytest.fixture
def narrow_resnets(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNets a quarter as wide: whole ones take most of a test to initialise, write and read."""
    monkeypatch.setattr(resnet, "ResNet", NarrowResNet)
    for name, trunk in trunks.TRUNKS.items():
        if name.startswith("resnet"):
            stages = (replace(stage, channels=stage.channels // 4) for stage in trunk.layout.stages)
            layout = replace(trunk.layout, stages=tuple(stages))
            monkeypatch.setitem(trunks.TRUNKS, name, replace(trunk, layout=layout))
