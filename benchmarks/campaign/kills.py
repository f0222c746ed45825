"""Runs that are killed and resumed, and what differs from one that was not."""

import contextlib
import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from campaign import material
from campaign.results import Result
from campaign.sandbox import Child, Limits, writes
from campaign.sound import Sound

Tell = Callable[[str], None]
ENDS_WITHIN = 60  # wall seconds for what is left of a run of which a process was killed


def recipe(folder: Path, sound: Sound, **trainer: Any) -> Path:
    """24 images, 12 steps, a checkpoint and a validation due at the same steps.

    The student draws the regions that it learns from at random; it has a moving average.
    """
    val = material.coco(folder / "coco", 24)
    train = val | {"init_args": val["init_args"] | {"training": True}}
    arguments = dict(material.detector()["init_args"])
    for name in ("head_depth", "topk_candidates"):
        del arguments[name]
    student = {
        "class_path": "limbeck.models.FasterRCNN",
        "init_args": arguments | {"box_head_channels": 16},
    }
    stated = material.recipe(
        train,
        val,
        student,
        val_check_interval=3,
        log_every_n_steps=1,
        max_steps=12,
        max_epochs=-1,
        **trainer,
    )
    teacher = {
        "class_path": "limbeck.models.load_student",
        "init_args": {"folder": str(sound.student)},
    }
    method = {"places": ["P3", "P4"], "weight": 5.0, "normalise": True}
    stated["model"] |= {
        "teacher": teacher,
        "methods": {"fitnet": {"class_path": "limbeck.methods.FitNet", "init_args": method}},
        "moving_average": 0.9,
    }
    stated["checkpoint_every"] = 3
    return material.write_recipe(folder / "recipe.yaml", stated)


def differences(run: Path, whole: Path) -> list[str]:
    """What a run left that an uninterrupted one did not, and the other way round."""
    found = []
    ours, theirs = _rows(run), _rows(whole)
    if ours != theirs:
        lost = sum(row not in ours for row in theirs)
        more = len(ours) - len(theirs) + lost
        found.append(f"rows of metrics.csv ({lost} lost or other, {more} more)")
    for name in ("student/student.safetensors", "student/student.json"):
        a, b = run / name, whole / name
        if not a.exists() or a.read_bytes() != b.read_bytes():
            found.append(name if a.exists() else f"{name} is missing")
    if (best := _best(run, whole)) is not None:
        found.append(best)
    summaries = [_summary(folder) for folder in (run, whole)]
    if summaries[0] != summaries[1]:
        found.append("summary.json" if summaries[0] else "summary.json is missing")
    if left := [p.name for p in run.rglob("*.part")]:
        found.append(f"left {left}")
    return found


def _rows(run: Path) -> list[dict[str, str]]:
    path = run / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _summary(run: Path) -> dict[str, Any]:
    path = run / "summary.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for measured in ("training_seconds", "peak_memory_mib"):
        found.pop(measured, None)
    return found


def _best(run: Path, whole: Path) -> str | None:
    paths = [folder / "checkpoints/best.ckpt" for folder in (run, whole)]
    if not paths[0].exists():
        return "best.ckpt is missing"
    ours, theirs = (torch.load(path, weights_only=False, map_location="cpu") for path in paths)
    if ours["global_step"] != theirs["global_step"]:
        return f"best.ckpt is of step {ours['global_step']}, not {theirs['global_step']}"
    a, b = ours["state_dict"], theirs["state_dict"]
    if a.keys() != b.keys() or not all(_same(a[name], b[name]) for name in a):
        return "best.ckpt's weights"
    return None if _score(ours) == _score(theirs) else "best.ckpt's score"


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    return bool(ours == theirs)  # what a method keeps beside its tensors


def _score(checkpoint: dict[str, Any]) -> float:
    (state,) = (s for name, s in checkpoint["callbacks"].items() if "BestCheckpoint" in name)
    return float(state["best_model_score"])


# -- settings --------------------------------------------------------------------------------------


@dataclass
class Running:
    """The processes of a run that is going on.

    Attributes:
        kill: Takes the number of a process or node, or None for all.
        wait: Takes seconds, and gives how each ended, as (code or None, output).
    """

    kill: Callable[[int | None], None]
    wait: Callable[[float], list[tuple[int | None, str]]]


@dataclass
class Setting:
    """A number of processes, and what starts them.

    Attributes:
        name: For the table.
        parts: Processes or nodes, each of which may be killed.
        start: Takes the words after ``limbeck``.
        trainer: Of the recipe.
    """

    name: str
    parts: int
    start: Callable[[Sequence[object], Path], Running]
    trainer: dict[str, Any] = field(default_factory=dict)


def _forks(words: Sequence[object], folder: Path, ranks: int = 1, hook: Any = None) -> Running:
    """As one process, or as several that a launcher has started."""
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_port())}
    children = []
    for rank in range(ranks):
        own = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
        limits = Limits(own, seconds=300, hook=hook, rank=rank if ranks > 1 else None)
        children.append(Child(words, folder, limits))

    def kill(number: int | None) -> None:
        for child in children if number is None else [children[number]]:
            child.kill()

    def wait(patience: float) -> list[tuple[int | None, str]]:
        end = time.monotonic() + patience
        outcomes = [child.wait(max(0.0, end - time.monotonic())) for child in children]
        return [(None if o.hung else o.code or -bool(o.signal), o.output) for o in outcomes]

    return Running(kill, wait)


def _nodes(words: Sequence[object], folder: Path) -> Running:
    """Two nodes of torchrun, on the loopback: the installed program in processes of its own."""
    port, started = _port(), []
    paths = os.pathsep.join(sys.path)  # the recipe names a callback of the campaign's own
    environment = os.environ | {"COLUMNS": "200", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": paths}
    for rank in range(2):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2"]
        launcher += [f"--node_rank={rank}", "--nproc_per_node=1", "--master_addr=127.0.0.1"]
        launcher += [f"--master_port={port}", "-m", "limbeck", *map(str, words)]
        log = (folder / f"node{rank}.out").open("wb")
        started.append(
            subprocess.Popen(launcher, cwd=folder, env=environment, stdout=log, stderr=log)
        )

    def kill(number: int | None) -> None:
        for process in started if number is None else [started[number]]:
            for pid in descendants(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def wait(patience: float) -> list[tuple[int | None, str]]:
        end, ends = time.monotonic() + patience, []
        for rank, process in enumerate(started):
            try:
                code: int | None = process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                code = None
                kill(rank)
                process.wait()
            ends.append((code, (folder / f"node{rank}.out").read_text(errors="replace")))
        return ends

    return Running(kill, wait)


def descendants(pid: int) -> list[int]:
    """A process and all that it started, from /proc."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


_DDP = {"strategy": "ddp"}
ONE_PROCESS = Setting("one process", 1, _forks)
TWO_PROCESSES = Setting(
    "two processes", 2, lambda words, folder: _forks(words, folder, 2), _DDP | {"devices": 2}
)
TWO_NODES = Setting("two nodes of torchrun", 2, _nodes, _DDP | {"devices": 1, "num_nodes": 2})


# -- kills -----------------------------------------------------------------------------------------


def resumed(begin: Sequence[object], run: Path, setting: Setting, folder: Path) -> str:
    """Resume a killed run until it ends; "" or what went wrong."""
    going = (run / "config.yaml").exists()
    words = ("fit", "--resume", run) if going else begin
    for code, output in setting.start(words, folder).wait(240):
        if code != 0:
            lines = [line for line in output.splitlines() if line.strip()]
            what = "resuming" if going else "beginning again"
            return f"{what} ends with {code}: {' '.join(lines[-2:])[-300:]}"
    return ""


def at_random_moments(
    folder: Path, sound: Sound, setting: Setting, count: int, seed: int, tell: Tell
) -> list[Result]:
    """Kill at random moments, resume, compare; and what a killed process does to the others."""
    folder.mkdir(parents=True)
    path = recipe(folder, sound, **setting.trainer)
    whole = folder / "whole"
    begin = ("fit", "--config", path, "--trainer.default_root_dir")
    going = setting.start((*begin, whole), folder)
    began = begun(whole)
    ends = going.wait(300)
    if any(code != 0 for code, _ in ends):
        raise RuntimeError(f"{setting.name}, uninterrupted: {ends[0][1][-3000:]}")
    lasted = time.monotonic() - began
    result = Result(f"kills at random moments, {setting.name}", point=6)
    others = Result(f"a killed part ends the others with a sentence, {setting.name}", point=6)
    dice = random.Random(f"{seed} {setting.name}")
    for number in range(count):
        moment, victim = dice.uniform(0, lasted), dice.choice([None, *range(setting.parts)])
        victim = number % setting.parts if setting.parts > 1 and number < 4 else victim
        run = folder / f"run{number}"
        going = setting.start((*begin, run), folder)
        begun(run)
        time.sleep(moment)
        going.kill(victim)
        ends = going.wait(ENDS_WITHIN)
        whose = "all" if victim is None else f"part {victim}"
        title = f"{number}: {whose} after {moment:.2f} s"
        if victim is not None and setting.parts > 1:
            code, output = ends[1 - victim]
            # torchrun waits five minutes at its end for a node that is gone.
            if code != 0 and not is_done(output):
                others.tried += 1
                if fault := ending(code, output):
                    others.failed[title] = fault
        result.tried += 1
        fault = resumed((*begin, run), run, setting, folder) or ", ".join(differences(run, whole))
        if not fault and setting.parts == 1:
            fault = resumed((), run, setting, folder) or ", ".join(differences(run, whole))
            fault = fault and f"resumed once more when it was finished: {fault}"
        if fault:
            result.failed[title] = f"{fault} (`limbeck fit --resume {run}`, beside {whole})"
            tell(f"{setting.name}, {title}: {fault}")
    return [result, others] if others.tried else [result]


def begun(run: Path) -> float:
    """Wait until a run has its recipe in its folder, or has failed; gives when that was."""
    end = time.monotonic() + 120
    while not (run / "config.yaml").exists() and time.monotonic() < end:
        time.sleep(0.01)
    return time.monotonic()


def is_done(output: str) -> bool:
    """Whether a part had nothing left to do when the other one was killed."""
    return "INFO student: " in output


def ending(code: int | None, output: str) -> str:
    """What is wrong with how a part ended of which another one was killed, or ""."""
    if code is None:
        return f"it goes on, or hangs, for {ENDS_WITHIN} s"
    said = [line for line in output.splitlines() if line.strip()]
    # torchrun has a traceback of its own for a worker that fails, whatever that one says.
    traces = output.split("Traceback (most recent call last)")[1:]
    if any("limbeck/cli.py" in trace for trace in traces):
        return f"a traceback, exit {code}: {' '.join(said[-1:])[:200]}"
    return "" if "ERROR" in output else f"exit {code} without a sentence"


class Window:
    """The audit hook that kills its process at the n-th write to a run's folder.

    Args:
        root: The folder.
        at: Which write, from 0, it does not come to; None: counts alone.
        log: Where the writes are listed.
    """

    def __init__(self, root: Path, at: int | None, log: Path) -> None:
        self.root, self.at = f"{root}{os.sep}", at
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self.count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One event of the interpreter."""
        if not (what := writes(event, arguments, self.root)):
            return
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        os.write(self.log, f"{what}\n".encode(errors="replace"))


def at_writes(folder: Path, sound: Sound, count: int, seed: int, tell: Tell) -> Result:
    """Kill before a write to the run's folder: every window that there is, or some of them."""
    folder.mkdir(parents=True)
    path = recipe(folder, sound)
    whole, log = folder / "whole", folder / "writes"
    begin = ("fit", "--config", path, "--trainer.default_root_dir")
    hook = Window(whole, None, log)
    [(code, output)] = _forks((*begin, whole), folder, hook=hook).wait(300)
    if code != 0:
        raise RuntimeError(f"the uninterrupted run: {output[-3000:]}")
    events = log.read_text().splitlines()
    result = Result("kills between two writes, one process", point=6)
    result.counts["windows"] = len(events)
    chosen = list(range(len(events)))
    if count < len(chosen):
        chosen = sorted(_known(events, count) | set(random.Random(seed).sample(chosen, count // 2)))
    for number in chosen:
        run = folder / f"run{number}"
        going = _forks((*begin, run), folder, hook=Window(run, number, folder / "log"))
        [(code, output)] = going.wait(300)
        result.tried += 1
        before = events[number - 1] if number else "nothing"
        title = f"{number}: between `{before}` and `{events[number]}`"
        fault = resumed((*begin, run), run, ONE_PROCESS, folder) or ", ".join(
            differences(run, whole)
        )
        if not fault:
            fault = resumed((), run, ONE_PROCESS, folder) or ", ".join(differences(run, whole))
            fault = fault and f"resumed once more when it was finished: {fault}"
        if fault:
            result.failed[title] = f"{fault} (`limbeck fit --resume {run}`, beside {whole})"
            tell(f"{title}: {fault}")
    return result


def _known(events: list[str], count: int) -> set[int]:
    """The windows that faults were found in: around the renames, the rows and the export."""
    words = ("rename checkpoints", "metrics.csv", "best.ckpt", "student.", "summary.json")
    wanted = [i for i, event in enumerate(events) if any(word in event for word in words)]
    wanted = sorted({i for each in wanted for i in (each, each + 1) if i < len(events)})
    stride = max(1, len(wanted) // count)
    return set(wanted[::-1][::stride])
