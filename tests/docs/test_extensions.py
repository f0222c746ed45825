"""What docs/extensions adds to Sphinx, on a small site."""

import io
import sys
from argparse import ArgumentParser
from pathlib import Path

import PIL.Image
import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS / "extensions"))

from command_line import fields, options_of, said_of  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:'myst_parser")

CONF = """
extensions = ["myst_parser", "mathml", "method_costs", "method_picture", "wiring_table"]
myst_enable_extensions = ["dollarmath"]
html_theme = "basic"
"""
INDEX = """# Methods

R is {costs}`Kind` and {costs}`Kin`.

```{toctree}
kind
lacking
```

<!-- benchmarks/costs.py -->
Eight rounds.

| pair | method | R, CPU time | peak |
|---|---|---|---|
| classifiers | Kind, C3 to C5 | 1.25 (1.1, 1.3) | 7 |
| detectors | Kind | 1.50 (1.4, 1.6) | 8 |
| detectors | Kinder | 9.99 (9, 10) | 9 |
<!-- end of benchmarks/costs.py -->

| pair | method | R, CPU time |
|---|---|---|
| elsewhere | Kind | 7.77 |
"""
KIND = """# Kind

Of $x_i$:

$$
L = \\frac{a}{b}
$$

```{method-picture} kind
```

```python
import torch
from torchvision.models.resnet import BasicBlock, ResNet
```

```python
from limbeck import Distillation, methods

models = [ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4) for _ in range(2)]
images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 3])
pair = Distillation(*models, [methods.FitNet(["C4"])])
wiring, losses = pair.check(images, labels), pair(images, labels)
```

```{wiring}
```

```python
raise RuntimeError("this stands below the table")
```

```{method-costs} Kind
```

```{method-costs} Kin
```
"""
LACKING = """# Lacking

$$
L = \\unheardof{x}
$$

```{method-picture} lacking
```

```{method-picture} uncaptioned
```

```python
pair = None
```

```{wiring}
```
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    """The pages of the site by their names, and what was warned of."""
    root = tmp_path_factory.mktemp("site")
    folder = root / "docs" / "methods"
    (folder / "pictures").mkdir(parents=True)
    (root / "docs" / "conf.py").write_text(CONF)
    (root / "docs" / "index.md").write_text("# Site\n\n```{toctree}\nmethods/index\n```\n")
    for name, text in {"index": INDEX, "kind": KIND, "lacking": LACKING}.items():
        (folder / f"{name}.md").write_text(text)
    for name in ("kind", "uncaptioned"):
        PIL.Image.new("RGB", (8, 4)).save(folder / "pictures" / f"{name}.png")
    (folder / "pictures" / "captions.yaml").write_text("kind: >\n  What `kind`\n  shows.\n")
    source, out, trees, warnings = root / "docs", root / "out", root / "trees", io.StringIO()
    Sphinx(source, source, out, trees, "html", status=None, warning=warnings).build()
    pages = {path.stem: path.read_text() for path in (out / "methods").glob("*.html")}
    return pages, warnings.getvalue()


def test_equations_are_mathml(site):
    page = site[0]["kind"]
    assert "<msub>" in page
    assert "<mfrac>" in page
    assert "https://cdn" not in page  # from where Sphinx's own way fetches a script


def test_latex_that_is_not_known_is_warned_of_with_its_page(site):
    assert "lacking.md:3: WARNING: Unknown LaTeX command" in site[1]


def test_a_picture_has_its_caption(site):
    page = site[0]["kind"]
    assert "<figure" in page
    assert 'alt="What `kind` shows."' in page
    assert '<figcaption>\n<p><span class="caption-text">What <code' in page


def test_a_picture_or_a_caption_that_is_missing_is_an_error(site):
    assert "lacking.png, which is not there" in site[1]
    assert "captions.yaml has no caption for uncaptioned; it has kind" in site[1]


def test_the_wiring_is_that_of_the_python_above(site):
    page = site[0]["kind"]
    assert "<td><p>conv 1x1 256 to 256</p></td>" in page
    assert "<td><p>2x256x2x2</p></td>" in page
    assert "FitNet/C4" in page
    assert "levels" not in page


def test_python_that_leaves_no_wiring_is_an_error(site):
    assert "The Python above the wiring table: KeyError('wiring')" in site[1]


def test_costs_are_the_rows_of_one_method(site):
    page, overview = site[0]["kind"], site[0]["index"]
    assert "C3 to C5" in page
    assert "1.50 (1.4, 1.6)" in page
    assert "9.99" not in page
    assert "7.77" not in page
    assert "R is 1.25, 1.50 and -." in overview
    assert "It is not in the" in page


def test_an_argument_is_told_without_roles_and_with_limbecks_default():
    parser = ArgumentParser()
    said = "Steps of :class:`~lightning.Trainer`, by :mod:`limbeck.data`.\nDefault: ``50``."
    told = parser.add_argument("--steps", default=10, help=said)
    parser.add_argument("--group", help="Path to a configuration file.")
    assert said_of(told) == "Steps of `Trainer`, by `limbeck.data`. Default: `10`."
    assert [action.dest for action in options_of(parser, None)] == ["steps"]


def test_keys_of_a_dataclass_are_told_by_its_docstring():
    told = ArgumentParser().add_argument("--model.optimizer.lr", default=0.001)
    assert said_of(told) == "The peak of the learning rate. Default: `0.001`."
    assert fields().keys() >= {"model.learning_rate.shape", "model.optimizer.clip_each"}
