"""The campaign behind docs/results/reliability.md: what limbeck does where things go wrong.

    python benchmarks/campaign.py --size small --seed 0 [--only recipes hostile] [--write]
    python benchmarks/campaign.py --size large --folder DIR --only nodes    # kind by kind

Kills, cut and flipped files, hostile files, bad recipes, full disks and the cases of
``../shared/cases``, against the limbeck of this environment. ``--write`` puts the table into
docs/results/reliability.md between its markers. What failed is in ``worklist.md`` of the working
folder, whose results of other kinds join the table.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from campaign import parts
from campaign.results import keep, kept, table, worklist

DOCUMENT = Path(__file__).parents[1] / "docs" / "results" / "reliability.md"
MARKS = "<!-- campaign -->\n", "<!-- /campaign -->"


def main() -> None:
    """Run what was asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=parts.SIZES, default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=parts.KINDS, default=list(parts.KINDS))
    parser.add_argument("--folder", type=Path, help="to work in; it keeps each kind's results")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/results/reliability.md"
    )
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="campaign-"))
    folder.mkdir(parents=True, exist_ok=True)
    for kind in given.only:
        if (folder / kind).exists() and not (folder / f"{kind}.json").exists():
            parser.error(f"{folder / kind} is there, and no campaign has left it: it would be lost")
    for kind in given.only:
        began = time.perf_counter()
        print(f"{kind} ({given.size}, seed {given.seed}) in {folder}", flush=True)
        shutil.rmtree(folder / kind, ignore_errors=True)
        keep(
            parts.KINDS[kind](folder / kind, parts.SIZES[given.size], given.seed),
            folder / f"{kind}.json",
        )
        print(f"{kind}: {time.perf_counter() - began:.0f} s", flush=True)
        results = kept(path for each in parts.KINDS if (path := folder / f"{each}.json").exists())
        (folder / "worklist.md").write_text(worklist(results))
    shown = table(results)
    print(shown)
    if given.write:
        old = DOCUMENT.read_text() if DOCUMENT.exists() else "# Reliability\n\n"
        before, _, rest = old.partition(MARKS[0])
        DOCUMENT.write_text(
            before + MARKS[0] + shown + "\n" + MARKS[1] + rest.partition(MARKS[1])[2]
        )
    sys.exit(int(any(result.failed for result in results)))


if __name__ == "__main__":
    main()
