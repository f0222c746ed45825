"""``limbeck tune``: the weight of a method, chosen on a part of the training images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from limbeck.commands.ending import ended_in_words
from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.recipe_files import read_recipe
from limbeck.commands.stated import parts_of, stated_in
from limbeck.comparison.argument import Effect, argument_of, effect_of
from limbeck.comparison.running import written
from limbeck.comparison.tuning import Tuned, Tuning, tune
from limbeck.names import escaped, in_shell
from limbeck.ranges import COUNT, Range, refuse_outside
from limbeck.recipe import Recipe, laid_over, value_at
from limbeck.schedules import Weight
from limbeck.terminal import Table, say
from limbeck.texts import read_text
from limbeck.whole import write_whole

_RANGES = {
    "candidates": COUNT,
    "share": Range(0, 1, open=True),
    "halvings": Range(0, 16),
    "seed": Range(0, 2**32 - 1),
}
_MARK = "chosen by `limbeck tune`"  # by which overlays of an earlier call are known


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck tune``.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck tune", allow_abbrev=False)
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        required=True,
        help="The recipe of the student, and then what is laid over it: give it two times or more.",
    )
    parser.add_function_arguments(tune_files, skip={"config"})
    with ended_in_words(arguments[0]):
        given = parser.parse_args(arguments[1:]).as_dict()
        tune_files(config=[Path(path) for path in given.pop("config")], **given)


def tune_files(
    config: Sequence[Path],
    method: str,
    argument: str = "weight",
    output: Path | None = None,
    candidates: int = 7,
    share: float = 0.25,
    halvings: int = 2,
    seed: int = 0,
) -> None:
    """Choose the weight of a method on a part of the training images, and write the overlay.

    Finished runs are taken over, and a run that was ended goes on where it was: give the same
    command again.

    Args:
        config: The recipe of the student, and then what is laid over it.
        method: The method, by its name in `model.methods`.
        argument: The argument of the method that sets its weights, a number or a schedule.
        output: The file of the overlay. Default: the name of the last recipe and `_tuned.yaml`.
        candidates: The number of weights on the grid; the stated one is tried beside them.
        share: The part of the schedule that the last candidates are trained for.
        halvings: How often the worse half is left out; each round is half as long as the next.
        seed: The seed of the split and of the runs.
    """
    refuse_outside(_RANGES, locals(), "--")
    if len(config) < 2:
        raise ValueError(
            "--config is given once; expected the recipe of the student, and then the overlay with "
            "the method. Give both."
        )
    output = output or Path(f"{config[-1].stem}_tuned.yaml")
    refuse_target(output, config)
    folder = Path("runs", "tune", config[-1].stem)
    recipes = [read_recipe(path) for path in config]
    stated = stated_in([str(path) for path in config])
    methods = {name: _plain(each) for name, each in (stated.model.methods or {}).items()}
    tuned_argument = argument_of(methods, method, argument)
    whole = laid_over(recipes)
    as_written = (value_at(whole, "model.methods") or {}).get(method)  # its name may have dots
    if not isinstance(as_written, Mapping):
        raise ValueError(
            f"model.methods.{method} is {as_written!r}; expected a mapping with class_path and "
            "init_args, in which a weight can be stated. Write it so."
        )
    tuning = Tuning(whole, tuned_argument, candidates, share, halvings, seed)
    found = tune(tuning, effect_on_weights(tuning, folder), folder)
    show(tuning, found)
    overlay = laid_over([*recipes[1:], tuned_argument.recipe(found.chosen)])
    write_whole(output, f"{header(config, output, tuning, found)}{_dumped(overlay)}")
    say(f"Written to {output}; the runs are in {folder}.")


def refuse_target(output: Path, config: Sequence[Path]) -> None:
    """Refuse to write an overlay where there is something that this tuning has not written.

    Args:
        output: The file of the overlay.
        config: The recipe of the student, and then what is laid over it.

    Raises:
        FileExistsError: Another file is there, or the overlay for another student.
    """
    refuse_unwritable_target(output, "--output")
    if not output.exists():
        return
    there = read_text(output)
    if _MARK not in there or there.partition("\n")[0] != _command(config, output):
        raise FileExistsError(
            f"--output {output} is there, and no `limbeck tune` of this student has written it. "
            "Choose another name, or move that file away."
        )


def _command(config: Sequence[Path], output: Path) -> str:
    """The first line of the overlay, which says how it is run."""
    words = " ".join(f"--config {in_shell(path)}" for path in (config[0], output))
    return f"# limbeck fit {words}"


def effect_on_weights(tuning: Tuning, folder: Path) -> Effect:
    """Build the method twice, and find out what the number does to its weights.

    Args:
        tuning: What is tuned.
        folder: The folder of the tuning.

    Returns:
        What it does.
    """
    argument = tuning.argument

    def weights(number: float) -> dict[str, Weight]:
        recipe = tuning.run(number, tuning.shares()[0])
        path = written(folder / "logs" / "built.yaml", recipe)
        module, _ = parts_of([str(path)])
        method: Any = module.pair.methods[argument.method]
        return dict(method.weights)

    return effect_of(argument, weights(argument.number), weights(2 * argument.number))


def show(tuning: Tuning, found: Tuned) -> None:
    """Print the scores of all rounds, and what is to be known of the choice.

    Args:
        tuning: What was tuned.
        found: What was found.
    """
    argument = tuning.argument
    say(f"{argument.key}: {found.headline} on {found.images} held-out training images")
    shares = [f"{share:.3g} of the schedule" for share in tuning.shares()]
    table = Table(argument.name, *shares, "")
    for number in sorted(found.rounds[0]):
        notes = ["as stated"] * (number == argument.number) + ["chosen"] * (number == found.chosen)
        cells = (_score(scores, number) for scores in found.rounds)
        table.add_row(f"{number:g}", *cells, ", ".join(notes))
    say(table)
    say(f"Level with the task, by the balance report: {argument.name} {found.level:.2g}.")
    if found.as_good:
        others = ", ".join(f"{number:g}" for number in found.as_good)
        say(
            f"On other images {others} may be as good: the 95 % interval of the difference to "
            f"{found.chosen:g}, over draws of the images, holds 0."
        )
    if found.chosen in (min(found.rounds[0]), max(found.rounds[0])):
        say(
            "The best weight lies at the end of what was tried, and better ones may lie beyond: "
            "give more --candidates."
        )


def header(config: Sequence[Path], output: Path, tuning: Tuning, found: Tuned) -> str:
    """The comments of the overlay: how it is run, and where its number is from."""
    last = f"{found.rounds[-1][found.chosen]:.3f}"
    chosen = (
        f"{tuning.argument.key} {found.chosen:g} (it was {tuning.argument.number:g}), {_MARK}: "
        f"{found.headline} {last} on {found.images} held-out training images"
    )
    return f"{_command(config, output)}\n# {escaped(chosen)}\n"


def _score(scores: Any, number: float) -> str:
    if number not in scores:
        return ""
    return "infinite losses" if scores[number] is None else f"{scores[number]:.3f}"


def _dumped(recipe: Recipe) -> str:
    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))


def _plain(value: Any) -> Any:
    """A parser's values as nested mappings."""
    return value.as_dict() if hasattr(value, "as_dict") else value
