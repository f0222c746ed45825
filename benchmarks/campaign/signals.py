"""Runs that are asked to end, and runs that are resumed twice at once."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from campaign import kills
from campaign.results import Result
from campaign.sandbox import Child, Limits
from campaign.sound import Sound

ASKED = (signal.SIGINT, signal.SIGTERM)


def campaign(
    folder: Path, sound: Sound, count: int, seed: int, tell: Callable[[str], None]
) -> list[Result]:
    """Signals at random moments, and a second resume while the first is running.

    Args:
        folder: To work in.
        sound: Files to start from.
        count: Of the signals.
        seed: Of the moments.
        tell: Takes a line at a time.
    """
    folder.mkdir(parents=True)
    path, whole = kills.recipe(folder, sound), folder / "whole"
    begin = ("fit", "--config", path, "--trainer.default_root_dir")
    child = Child((*begin, whole), folder, Limits(seconds=300))
    began = kills.begun(whole)
    if (outcome := child.wait(300)).code != 0:
        raise RuntimeError(f"the uninterrupted run: {outcome.output[-3000:]}")
    lasted = time.monotonic() - began
    ended = Result("asked to end (SIGINT, SIGTERM): a sentence, 128 + n, resumed exactly", point=6)
    dice = random.Random(f"{seed} signals")
    for number in range(count):
        asked, moment = ASKED[number % 2], dice.uniform(0, lasted)
        run = folder / f"run{number}"
        child = Child((*begin, run), folder, Limits(seconds=300))
        kills.begun(run)
        time.sleep(moment)
        child.kill(asked)
        outcome = child.wait(60)
        ended.tried += 1
        faults = []
        # 0: it was done already; the signal itself: limbeck had nothing to put in order yet.
        if outcome.code not in (0, 128 + asked) and outcome.signal != asked.name:
            faults.append(f"exit {outcome.signal or outcome.code}")
        if outcome.trace:
            faults.append("traceback")
        words = (*begin, run)
        resumed = kills.resumed(words, run, kills.ONE_PROCESS, folder)
        faults += [resumed] if resumed else kills.differences(run, whole)
        if faults:
            title = f"{number}: {asked.name} after {moment:.2f} s"
            ended.failed[title] = f"{'; '.join(faults)}: {outcome.said} (in {run}, beside {whole})"
            tell(f"{title}: {'; '.join(faults)}")
    return [ended, _twice(folder, whole, begin, tell)]


def _twice(
    folder: Path, whole: Path, begin: tuple[object, ...], tell: Callable[[str], None]
) -> Result:
    """Kill, resume, and resume again while that one runs."""
    result = Result("of two resumes at once the second is refused", tried=1, point=6)
    run, steps = folder / "twice", folder / "steps"
    child = Child((*begin, run), folder, Limits(seconds=300))
    kills.begun(run)
    time.sleep(1)  # the recipe is whole, and something is trained
    child.kill()
    child.wait(60)
    first = Child(
        ("fit", "--resume", run), folder, Limits({"CAMPAIGN_STEPS": str(steps)}, seconds=300)
    )
    end = time.monotonic() + 60
    while not steps.exists() and time.monotonic() < end:
        time.sleep(0.02)
    outcome = Child(("fit", "--resume", run), folder, Limits(seconds=300)).wait(120)
    faults = []
    if outcome.code != 1 or outcome.trace or "ERROR" not in outcome.output:
        faults.append(f"the second ends with {outcome.signal or outcome.code}: {outcome.said}")
    if (code := first.wait(300).code) != 0:
        faults.append(f"the first ends with {code}")
    faults += kills.differences(run, whole)
    if faults:
        result.failed["two resumes"] = f"{'; '.join(faults)} (in {run}, beside {whole})"
        tell(f"two resumes: {'; '.join(faults)}")
    return result
