"""What is said of bad recipes: key, found, expected and what to do, before training."""

import re
from collections.abc import Callable
from pathlib import Path

from campaign import material
from campaign.bad_recipes import Bad, everything
from campaign.results import Result
from campaign.sandbox import Limits, Outcome, limbeck

# A program cannot judge a sentence: these find the ones that hardly can be whole.
EXPECTED = re.compile(
    r"expect|ha(s|ve) to|must|known|at least|between|one of|should|valid|such as|instead|"
    r"options are|available|only|needs?\b|above|below|not among|do(es)? not|(here|they) are|"
    r"required|is for|"
    r"set \S+ to|begin at|give |there (is|are)|for (detection|classification)|classes:",
    re.IGNORECASE,
)
ADVICE = re.compile(
    r"\b(set|give|use|take|choose|leave|name|pass|add|remove|correct|write|state|try|lower|raise|"
    r"keep|expected|nearest|did you mean|put|replace|copy|make|turn|let|resume|drop|open|point|"
    r"begin|ha(s|ve) to|must|need|splits here|limbeck inspect)\b",
    re.IGNORECASE,
)


def judged(bad: Bad, outcome: Outcome, steps: str) -> list[str]:
    """What is missing in what was said, or wrong about when."""
    said = "\n".join(
        line for line in outcome.output.splitlines() if not line.startswith("INFO student")
    )
    missing = []
    if outcome.trace or outcome.code not in (0, 1, 2):
        missing.append("traceback")
    if outcome.code == 0 and not bad.allowed:
        return ["accepted"]
    if steps and not bad.allowed:
        missing.append("after training began")
    for what, pattern in (("key", bad.key), ("found", bad.found)):
        if not re.search(pattern, said):
            missing.append(what)
    if not EXPECTED.search(said):
        missing.append("expected")
    if not ADVICE.search(said):
        missing.append("what to do")
    return missing


def campaign(folder: Path, share: float, tell: Callable[[str], None]) -> Result:
    """Every bad recipe, or of a small campaign every third.

    Args:
        folder: To work in.
        share: Of the recipes that are tried.
        tell: Takes a line at a time.
    """
    result = Result("bad recipes: key, found, expected and what to do before training", point=9)
    said = []
    bad = list(everything(folder / "data"))
    every = max(1, round(1 / share))
    for number, each in enumerate(bad[::every]):
        run = folder / f"{number:03}"
        run.mkdir(parents=True)
        path = material.write_recipe(run / "recipe.yaml", each.recipe)
        steps = run / "steps"
        words = ("fit", "--config", path, "--trainer.default_root_dir", run / "run")
        outcome = limbeck(words, run, Limits({"CAMPAIGN_STEPS": str(steps)}))
        missing = judged(each, outcome, steps.read_text() if steps.exists() else "")
        result.tried += 1
        if missing:
            point = 2 if each.allowed or missing == ["accepted"] else 9
            result.failed[each.name] = (
                f"[{point}] {', '.join(missing)}; `limbeck fit --config {path}`: {outcome.said}"
            )
            result.count(missing)
            tell(f"{each.name}: {', '.join(missing)}")
        verdict = ", ".join(missing) or "all there"
        shown = outcome.output[-2500:].strip()
        said.append(f"## {each.name}\n\n{verdict}\n\n```\n{shown}\n```\n")
    (folder / "said.md").write_text("\n".join(said))
    return result
