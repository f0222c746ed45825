import re
import tomllib
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18
from torchvision.models._api import WeightsEnum

from limbeck import methods, models
from limbeck.commands import recipes
from limbeck.methods import Method

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
METHODS = [
    exported
    for exported in vars(methods).values()
    if isinstance(exported, type) and issubclass(exported, Method) and exported is not Method
]
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_example_of_a_loop_of_ones_own_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    published = resnet18().state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: published)
    torch.save(models.RetinaNet("resnet50", num_classes=3).state_dict(), "teacher.pth")
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]), "labels": torch.tensor([2])}
    scope = {"loader": [([torch.rand(3, 64, 64)], [target])]}
    exec(BLOCKS[0], scope)
    assert scope["losses"].keys() >= {"student/classification", "FitNet/fpn.0"}
    assert scope["pair"].number == 1
    assert "conv 1x1" in capsys.readouterr().out
    head = scope["teacher"].head.classification_head.cls_logits.weight
    moved = scope["student"].head.classification_head.cls_logits.weight
    assert not torch.equal(head, moved)
    torch.testing.assert_close(head, moved, atol=0.1, rtol=0)  # transferred, then one step


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
def test_links_within_the_repository_lead_somewhere(path):
    page = ROOT / path
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_links_of_the_readme_are_whole_and_lead_into_the_repository_and_its_site():
    """The README is shown where the repository's files are not beside it."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    site, files = f"{urls['Documentation']}/en/latest", f"{urls['Repository']}/blob/main"
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert all(link.startswith("https://") for link in links)
    for link in links:
        path = link.partition("?")[0].partition("#")[0]
        if path.startswith(site):
            page = path.removeprefix(site).strip("/").removesuffix(".html") or "index"
            assert (ROOT / "docs" / f"{page}.md").is_file(), link
        if path.startswith(urls["Repository"]):
            assert (ROOT / path.removeprefix(files).strip("/")).is_file(), link


def test_every_recipe_that_the_readme_names_exists():
    named = re.findall(r"recipes copy (\S+)", README)
    assert named
    assert set(named) <= set(recipes.names())


def test_the_table_of_methods_has_them_all():
    rows = re.findall(r"^\| `(\w+)` \|", README, re.M)
    assert sorted(rows) == sorted(method.__name__ for method in METHODS)


@pytest.mark.parametrize("needs_targets", [True, False])
def test_the_methods_that_need_labels_are_those_that_are_said_to(needs_targets):
    page = (ROOT / "docs/guides/unlabelled.md").read_text()
    said = r"by name: ([\w\s,]+)\. A" if needs_targets else r"for that: ([\w\s,]+)\. Photographs"
    (named,) = re.findall(said, page)
    expected = {m.__name__ for m in METHODS if m.needs_targets is needs_targets}
    assert set(re.split(r",\s+|\s+and\s+", named)) == expected
