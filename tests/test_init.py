import ast
import doctest
import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import start_processes

import limbeck

HEAVY = ("torch", "torchvision", "lightning", "timm", "scipy", "matplotlib", "rich", "numpy")


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def imported(code: str, names: tuple[str, ...]) -> set[str]:
    """Which of the modules a fresh interpreter has imported after the code."""
    return set(run(f"{code}\nimport sys\nprint(*sys.modules.keys() & {set(names)})").split())


def test_the_tour_of_the_public_names_runs_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    families = sys.modules["limbeck.landmarks"]
    monkeypatch.setattr(families, "_families", list(families._families))  # the tour adds one
    torch.manual_seed(0)
    assert not doctest.testmod(limbeck, optionflags=doctest.ELLIPSIS).failed


def test_the_tour_shows_every_public_name() -> None:
    examples = doctest.DocTestParser().get_examples(limbeck.__doc__ or "")
    words = set(re.findall(r"\w+", " ".join(one.source + (one.exc_msg or "") for one in examples)))
    assert words >= set(limbeck.__all__)


def test_type_checkers_and_people_are_told_the_same_names() -> None:
    tree = ast.parse(Path(limbeck.__file__).read_text())
    (block,) = (one for one in tree.body if ast.unparse(one).startswith("if TYPE_CHECKING"))
    lines = [line for line in ast.walk(block) if isinstance(line, ast.ImportFrom)]
    told = {name.name for line in lines for name in line.names}
    assert told == set(limbeck.__all__)
    assert set(limbeck.__all__) <= set(dir(limbeck))
    for name in limbeck.__all__:
        assert getattr(limbeck, name).__doc__


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'limbeck' has no attribute 'Distilation'"):
        limbeck.Distilation  # noqa: B018


def test_everything_comes_with_a_star() -> None:
    scope: dict[str, object] = {}
    exec("from limbeck import *", scope)
    assert scope.keys() == {*limbeck.__all__, "__builtins__"}


STEPS = (
    "import limbeck.landmarks",
    "from limbeck import landmarks",
    "import limbeck.taps",
    "from limbeck import Taps",
    "import limbeck; limbeck.landmarks",
)


def orders(_: int) -> None:
    """Limbeck's modules are imported anew for each order, in a process that has torch."""
    for steps in permutations(STEPS, 2):
        for name in [name for name in sys.modules if name.partition(".")[0] == "limbeck"]:
            del sys.modules[name]
        for step in steps:
            exec(step, {})
            found = sys.modules["limbeck"].landmarks
            assert found is sys.modules["limbeck.landmarks"].landmarks, steps
            assert callable(found), steps


def test_landmarks_is_the_function_in_whatever_order_modules_are_imported() -> None:
    start_processes(orders, nprocs=1, start_method="forkserver")


def test_limbeck_itself_imports_nothing_heavy() -> None:
    assert imported("import limbeck; dir(limbeck)", HEAVY) == set()


def test_models_and_methods_import_no_training_and_no_pictures() -> None:
    code = "from limbeck import Distillation, methods, models"
    heavy = ("lightning", "torchmetrics", "matplotlib", "scipy", "limbeck.training")
    assert imported(code, heavy) == set()
