"""What recipes state, and what they build, without a run."""

from collections.abc import Sequence

from jsonargparse import Namespace

from limbeck.commands.command_line import Stated, command_line
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule


def parts_of(recipes: Sequence[str]) -> tuple[DistillationModule, DataModule]:
    """Build the models with their methods, and the data, of recipes.

    Args:
        recipes: The files of the recipes, each laid over the ones before.

    Returns:
        The module and the data.
    """
    cli = command_line(_options(recipes), None, save_config_callback=None, run=False)
    return cli.model, cli.datamodule


def stated_in(recipes: Sequence[str]) -> Namespace:
    """What recipes state, of which nothing is built.

    Args:
        recipes: The files of the recipes, each laid over the ones before.

    Returns:
        The values of all keys, with their types checked.
    """
    cli = command_line(_options(recipes), None, Stated, save_config_callback=None, run=False)
    stated: Namespace = cli.config
    return stated


def _options(recipes: Sequence[str]) -> list[str]:
    return [word for recipe in recipes for word in ("--config", recipe)]
