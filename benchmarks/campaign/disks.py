"""Runs on disks that are full: they train to the end, and say what is missing and how to get it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from campaign import kills
from campaign.results import Result
from campaign.sandbox import Limits, limbeck
from campaign.sound import Sound

SHARES = (0.01, 0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.98)  # of what the run takes
HOW = re.compile(r"--resume|[Ff]ree space|another folder|export|save_student")


def mounted(folder: Path, size: int) -> bool:
    """Whether a disk in memory of so many bytes could be mounted there."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "campaign", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def campaign(folder: Path, sound: Sound, count: int, tell: Callable[[str], None]) -> Result:
    """So many sizes, from next to nothing to nearly all of it.

    Args:
        folder: To work in.
        sound: Files to start from.
        count: Of the sizes.
        tell: Takes a line at a time.
    """
    result = Result("full disks", point=8)
    folder.mkdir(parents=True)
    path = kills.recipe(folder, sound)
    begin = ("fit", "--config", path, "--trainer.default_root_dir")
    steps = folder / "steps"
    whole = limbeck(
        (*begin, folder / "whole"), folder, Limits({"CAMPAIGN_STEPS": str(steps)}, seconds=300)
    )
    ended = steps.read_text()
    if whole.code != 0:
        raise RuntimeError(f"the run with room: {whole.output[-3000:]}")
    needed = sum(p.stat().st_size for p in (folder / "whole").rglob("*") if p.is_file())
    tell(f"with room: {needed} bytes, {ended}")
    stride = len(SHARES) // count
    for share in SHARES[stride // 2 :: stride]:
        disk = folder / f"disk{int(share * 100):02}"
        if not mounted(disk, int(needed * share)):
            tell("skipped: no disk in memory can be mounted here")
            return result
        try:
            _one(result, disk, share, begin, steps, ended, folder, tell)
        finally:
            subprocess.run(["umount", str(disk)], check=False)
    return result


def _one(
    result: Result,
    disk: Path,
    share: float,
    begin: tuple[object, ...],
    steps: Path,
    ended: str,
    folder: Path,
    tell: Callable[[str], None],
) -> None:
    run = disk / "run"
    steps.unlink(missing_ok=True)
    outcome = limbeck((*begin, run), folder, Limits({"CAMPAIGN_STEPS": str(steps)}, seconds=300))
    reached = steps.read_text() if steps.exists() else "no step"
    faults = []
    if reached != ended:
        faults.append(f"{reached}, not {ended}")
    if outcome.trace:
        faults.append("traceback")
    missing = [
        n
        for n in ("student/student.safetensors", "student/student.json", "summary.json")
        if not (run / n).exists()
    ]
    if missing and not ("student" in outcome.output and HOW.search(outcome.output)):
        faults.append(f"{', '.join(missing)} missing, and not said how to get it")
    if "could not be written" not in outcome.output and "No space left" not in outcome.output:
        faults.append("not a word")
    if not faults and missing and (run / "config.yaml").exists() and "--resume" in outcome.output:
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=False)
        again = limbeck(("fit", "--resume", run), folder, Limits(seconds=300))
        if again.code != 0 or not (run / "student/student.safetensors").exists():
            faults.append(f"what was advised (--resume) fails: {again.said}")
    result.tried += 1
    if faults:
        how = (
            f"`mount -t tmpfs -o size=N tmpfs {disk}`, `limbeck {' '.join(map(str, begin))} {run}`"
        )
        result.failed[f"{share:.0%} of the room"] = f"{'; '.join(faults)} ({how}): {outcome.said}"
        tell(f"{share:.0%}: {'; '.join(faults)}: {outcome.said}")
