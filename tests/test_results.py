"""The tables of docs/results/index.md come from reports, and from nothing else."""

import math
import re
import sys
from pathlib import Path

import pytest
import yaml

from limbeck.commands.recipes import find
from limbeck.recipe import laid_over
from limbeck.report.page import write_report
from tests.report.page import examples

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import published
import results

ROOT = Path(__file__).parents[1]
PAGE = """# Results

<!-- summary -->
<!-- /summary -->
<!-- published -->
<!-- /published -->
<!-- made_up -->
earlier
<!-- /made_up -->

Written by hand.
"""


PUBLISHED = """
- {method: KD, row: first, score: [top-1], plain: [60.0], distilled: [61.5], steps: 12_000}
- {method: KD, row: second, score: [top-1], plain: [60.0], distilled: [63.0], steps: 12_000}
- {method: AT, row: third, score: [top-1 error], plain: [30.4], distilled: [29.3], steps: 9_000}
- {method: DKD, row: fourth, score: [top-1], over: KD, plain: [70.0], distilled: [71.0], steps: 9}
"""
COMPARISON = """
title: Made up
plain: {model: {student: some.Student}}
rows:
  kd: {model: {methods: {kd: {class_path: limbeck.methods.KD}}}}
  fitnet:
    model:
      methods: {kd: {class_path: limbeck.methods.KD}, at: {class_path: limbeck.methods.AT}}
"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A page, and the report of a made-up comparison."""
    example = examples.make(tmp_path / "runs", "classification", images=8, seeds=2)
    write_report(example.findings, example.data, tmp_path / "docs/results/made_up")
    (tmp_path / "docs/results/index.md").write_text(PAGE)
    (tmp_path / "docs/methods").mkdir()
    (tmp_path / "docs/methods/published.yaml").write_text(PUBLISHED)
    (tmp_path / "docs/made_up.yaml").write_text(COMPARISON)
    return tmp_path / "docs"


def test_a_section_has_the_scores_the_differences_and_the_verdicts(docs: Path) -> None:
    assert results.write(docs, docs, []) == ["made_up"]
    page = (docs / "results/index.md").read_text()
    assert "earlier" not in page
    assert page.endswith("<!-- /made_up -->\n\nWritten by hand.\n")
    findings = results.findings_in(docs / "results/made_up/report.json")
    for row in findings.rows:
        (line,) = (each for each in page.splitlines() if each.startswith(f"| {row.name} | 0."))
        score = sum(run.scores["top1"] for run in row.runs) / len(row.runs)
        assert f"{score:.3f}" in line
        assert row.kind == "teacher" or "11 min" in line  # as it was measured
    for contrast in findings.contrasts:
        (line,) = (
            each
            for each in page.splitlines()
            if each.startswith(f"| {contrast.row} | {contrast.control} |")
        )
        assert line.endswith(f"| {contrast.verdict} |")
        assert f"{abs(contrast.over_images[0]):.3f} to " in line
    assert findings.rule in page
    assert findings.cautions[0] in page


def test_the_summary_has_a_line_for_each_distilled_student(docs: Path) -> None:
    results.write(docs, docs, [])
    page = (docs / "results/index.md").read_text()
    between = page.partition("<!-- summary -->")[2].partition("<!-- /summary -->")[0]
    findings = results.findings_in(docs / "results/made_up/report.json")
    distilled = [row.name for row in findings.rows if row.kind == "distilled"]
    lines = between.strip().splitlines()[2:]
    assert [line.split(" | ")[2] for line in lines] == distilled
    (plain,) = (c for c in findings.contrasts if (c.row, c.control) == (distilled[0], "plain"))
    assert f"{plain.mean:+.3f}" in lines[0]
    assert f": {plain.verdict} |" in lines[0]
    assert lines[0].startswith(f"| [{findings.title}](made_up/report.md) |"), "it can be followed"


def test_a_comparison_of_one_seed_is_in_neither_table(docs: Path, tmp_path: Path) -> None:
    example = examples.make(tmp_path / "runs1", "classification", images=8, seeds=1)
    write_report(example.findings, example.data, docs / "results/made_up")
    results.write(docs, docs, [])
    page = (docs / "results/index.md").read_text()
    assert "**No comparison has been finished yet.**" in page
    assert page.count("not over several seeds yet") == 3
    assert example.findings.rule in page, "its own section is there"


def test_without_a_report_the_summary_says_so(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/published.yaml").write_text(PUBLISHED)
    index = tmp_path / "results/index.md"
    index.write_text(PAGE)
    assert results.write(tmp_path, tmp_path, []) == []
    between = index.read_text().partition("<!-- summary -->\n")[2].partition("<!-- /summary -->")
    assert between[0].startswith("**No comparison has been finished yet.**")


def test_each_method_stands_beside_what_was_published_of_it(docs: Path) -> None:
    results.write(docs, docs, [])
    page = (docs / "results/index.md").read_text()
    between = page.partition("<!-- published -->")[2].partition("<!-- /published -->")[0]
    findings = results.findings_in(docs / "results/made_up/report.json")
    told = {each.control: each for each in findings.contrasts if each.row == "kd"}
    plain, time = told["plain"], told["plain, time of kd"]
    steps = next(row.runs[0].steps for row in findings.rows if row.name == "kd")
    share = f"{(steps or 0) / 12_000:.1%}"
    # A row of two methods is of neither, and errors are better where they are lower.
    assert [line.strip("| ").split(" | ") for line in between.strip().splitlines()[2:]] == [
        [
            "KD",
            "+1.50",
            "first, top-1",
            f"{100 * plain.mean:+.2f}: {plain.verdict}",
            f"{100 * time.mean:+.2f}: {time.verdict}",
            f"[{findings.title}](made_up/report.md), kd",
            share,
        ],
        ["AT", "+1.10", "third, top-1 error", "not over several seeds yet", "-", "-", "-"],
        ["DKD", "+1.00 over KD", "fourth, top-1", "not over several seeds yet", "-", "-", "-"],
    ]


def test_a_row_of_several_methods_of_a_transfer_or_of_half_a_method_is_of_none(
    tmp_path: Path,
) -> None:
    kd = {"methods": {"kd": {"class_path": "limbeck.methods.KD"}}}
    on_standardised = {"class_path": "limbeck.methods.KD", "init_args": {"standardise": True}}
    head = {"class_path": "limbeck.methods.HEAD", "init_args": {"ckd": None}}
    rows = {
        "KD": kd,
        "standardised": {"methods": {"kd": on_standardised}},
        "KD and AT": {"methods": {**kd["methods"], "at": {"class_path": "limbeck.methods.AT"}}},
        "KD + head": {**kd, "transfer": {"head": "head"}},
        "assist": {"methods": {"head": head}},
    }
    stated = {"title": "t", "plain": {"model": {}}}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({**stated, "rows": {n: {"model": m} for n, m in rows.items()}}))
    assert published.methods_of(file) == {"KD": "KD", "standardised": "KD on standardised logits"}


IMAGES = {
    "ImageNet": 1_281_167,
    "CIFAR-100": 50_000,
    "CUB-200": 5_994,
    "COCO": 117_266,  # those with objects
    "VOC 2007": 5_011,
}


def test_what_was_published_agrees_with_the_recipes_and_the_pages() -> None:
    rows = yaml.safe_load((results.DOCS / "methods/published.yaml").read_text())
    for row in rows:
        assert len(row["score"]) == len(row["plain"]) == len(row["distilled"])
        images = next((n for data, n in IMAGES.items() if row["row"].startswith(data)), None)
        if "recipe" in row:
            assert row["steps"] == steps_of(row["recipe"], images), row
    shown = {
        name
        for page in results.DOCS.glob("methods/*.md")
        for name in re.findall(r"^```{published-rows} (.*)$", page.read_text(), re.MULTILINE)
    }
    assert shown == {row["method"] for row in rows}


def steps_of(name: str, images: int | None) -> int:
    """The steps of a recipe, whose first line names what it is laid over."""
    first = find(name).read_text().partition("\n")[0]
    paths = re.findall(r"--config (\S+)", first)
    recipe = laid_over([yaml.safe_load(Path(ROOT, path).read_text()) for path in paths])
    trainer = recipe["trainer"]
    if trainer.get("max_steps", -1) > 0:
        return int(trainer["max_steps"])
    assert images is not None, name
    batch = recipe["data"]["batch_size"] * trainer.get("devices", 1)
    return int(trainer["max_epochs"]) * math.ceil(images / batch)


def test_the_same_report_gives_the_same_page(docs: Path) -> None:
    results.write(docs, docs, ["made_up"])
    page = (docs / "results/index.md").read_text()
    results.write(docs, docs, ["made_up"])
    assert (docs / "results/index.md").read_text() == page


def test_a_page_without_the_marks_is_refused_and_stays_as_it_was(docs: Path) -> None:
    (docs / "results/index.md").write_text("# Results\n")
    with pytest.raises(ValueError, match="lacks the lines <!-- made_up -->"):
        results.write(docs, docs, [])
    assert (docs / "results/index.md").read_text() == "# Results\n"


def test_every_comparison_has_its_place_in_the_page() -> None:
    page = (results.DOCS / "results/index.md").read_text()
    comparisons = ROOT / "comparisons"
    for path in comparisons.glob("*.yaml"):
        assert results.put(page, path.stem, "") != ""
        assert f"comparisons/{path.name}" in page


def test_a_report_that_is_taken_over_says_the_same_without_single_images(docs: Path) -> None:
    whole = docs / "results/made_up"
    results.write(docs, docs, [])
    page = (docs / "results/index.md").read_text()
    output = whole.rename(docs.parent / "made_up")
    results.keep(output, docs)
    results.write(docs, docs, [])
    assert (docs / "results/index.md").read_text() == page
    assert sorted(path.name for path in whole.iterdir()) == ["report.json", "report.md"]
    sizes = [(folder / "report.json").stat().st_size for folder in (whole, output)]
    assert 2 * sizes[0] < sizes[1]
