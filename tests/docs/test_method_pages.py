"""Every exported method has a page, and every page has all that a page of a method has to have."""

import re
from pathlib import Path

import pytest

from limbeck import methods
from limbeck.commands import recipes
from limbeck.methods import Method

FOLDER = Path(__file__).parents[2] / "docs" / "methods"
INDEX = (FOLDER / "index.md").read_text()
PAGES = {path.stem: path.read_text() for path in FOLDER.glob("*.md") if path.stem != "index"}
SHARED = {"standardised_logits"}  # an argument of two methods, with a paper of its own
EXPORTED = {
    name: exported
    for name, exported in vars(methods).items()
    if isinstance(exported, type) and issubclass(exported, Method) and exported is not Method
}
PARTS = [
    "The paper",
    "The idea",
    "Equation and code",
    "The picture",
    "In Python",
    "In a recipe",
    "What it costs",
    "Published and ours",
    "What the published code does differently",
    "When to take it",
]


def of_page(name: str) -> str:
    """The name of the class that a page is about."""
    return PAGES[name].removeprefix("# ").partition(":")[0]


def part(text: str, heading: str) -> str:
    """What stands below one of the headings of a page."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


each_page = pytest.mark.parametrize("name", sorted(PAGES))


def test_every_exported_method_has_a_page_of_its_own() -> None:
    assert sorted(of_page(name) for name in PAGES.keys() - SHARED) == sorted(EXPORTED)


def test_a_page_is_named_after_the_file_of_its_method() -> None:
    for name in PAGES.keys() - SHARED:
        module = EXPORTED[of_page(name)].__module__.removeprefix("limbeck.methods.")
        alone = module.partition(".")[0]
        assert name == alone or of_page(name).lower() == name.replace("_", ""), name


@each_page
def test_a_page_has_all_parts_in_their_order(name: str) -> None:
    assert re.findall("^## (.+)$", PAGES[name], re.MULTILINE) == PARTS


@each_page
def test_the_parts_of_a_page_hold_what_they_are_called(name: str) -> None:
    text = PAGES[name]
    paper, equation = part(text, "The paper"), part(text, "Equation and code")
    assert "https://arxiv.org/abs/" in paper
    assert "```bibtex\n@" in paper
    assert len(re.findall(r"^\d\. ", part(text, "The idea"), re.MULTILINE)) == 5
    assert equation.count("\n$$\n") % 2 == 0
    assert equation.count("{literalinclude}") > 0
    assert "```{method-picture} " in part(text, "The picture")
    example = part(text, "In Python")
    assert example.index("```python\n") < example.index("```{wiring}\n")
    recipe = part(text, "In a recipe")
    assert "```yaml\nmodel:\n" in recipe
    assert "\nlimbeck recipes copy " in recipe
    ours = part(text, "Published and ours")
    assert "(../results/index.md)" in ours or "no comparison here" in ours


@each_page
def test_a_page_tells_of_its_own_method(name: str) -> None:
    text = PAGES[name]
    about = "KD" if name in SHARED else of_page(name)
    assert f"{{method-costs}} {about}\n" in text
    assert f"{{py:class}}`limbeck.methods.{about}`" in text
    assert f"class_path: limbeck.methods.{about}\n" in part(text, "In a recipe")
    assert name in SHARED or f"{{method-picture}} {name}\n" in text


@each_page
def test_the_overview_leads_to_a_page_and_lists_it(name: str) -> None:
    assert re.search(rf"^{name}$", INDEX.partition("```{toctree}")[2], re.MULTILINE)
    assert f"]({name}.md) |" in INDEX


@pytest.mark.parametrize("name", sorted(PAGES.keys() - SHARED))
def test_the_overview_says_which_methods_need_labels(name: str) -> None:
    (row,) = re.findall(rf"^\| \[.+?\]\({name}\.md\) \|.+$", INDEX, re.MULTILINE)
    said = row.split(" | ")[3]  # method, take it, paper, labels
    assert said == ("yes" if EXPORTED[of_page(name)].needs_targets else "no")


@each_page
def test_the_recipes_that_a_page_names_are_there(name: str) -> None:
    families = "|".join(path.name for path in recipes.folder().iterdir())
    named = set(re.findall(rf"(?<![/\w])(?:{families})/\w+", PAGES[name]))
    assert named
    for recipe in named:
        assert recipes.find(recipe)
