"""The JSON Schema of recipes, by which editors complete, explain and check them.

jsonargparse writes the schema of a parser. Here, the classes are those that limbeck exports (it
would take every subclass that is imported, so all modules of torch), a class path of anybody else's
is allowed, no key is required (a recipe may be laid over another one), and the draft is number 7,
which editors know.
"""

import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import Namespace
from jsonargparse._completions_jsonschema import ParserJsonschema

from limbeck.commands.command_line import Stated, command_line
from limbeck.whole import write_whole

Schema = dict[str, Any]

TITLE = "A recipe of limbeck"
DRAFT = "http://json-schema.org/draft-07/schema#"
# The first of these in which there is a class for a key has the classes that are proposed for it.
PACKAGES = (
    "limbeck.models",
    "limbeck.methods",
    "limbeck.data",
    "limbeck.metrics",
    "limbeck.schedules",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)
_OF_OTHERS = rf"^(?!({'|'.join(PACKAGES).replace('.', '[.]')})[.]\w+$)"


def write_schema(path: Path) -> None:
    """Write the schema of recipes to a file.

    Args:
        path: A new file, or one that holds such a schema.

    Raises:
        FileExistsError: The file holds something else.
    """
    if path.exists() and f'"title": "{TITLE}"' not in path.read_text(errors="replace"):
        raise FileExistsError(
            f"{path} exists already, and is no schema of recipes. Choose another name."
        )
    write_whole(path, json.dumps(recipe_schema(), indent=1) + "\n")


def recipe_schema() -> Schema:
    """The schema of a recipe, as the parser of ``limbeck fit`` takes it."""
    parser = command_line([], None, Unparsed, save_config_callback=None, run=False).parser
    generator = RecipeSchema()  # type: ignore[no-untyped-call]
    schema = {**generator.generate(parser), "$schema": DRAFT, "title": TITLE}
    _relax(schema)
    return schema


class Unparsed(Stated):
    """The command line of recipes, of which the parser alone is wanted."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse nothing."""
        self.config = Namespace()  # type: ignore[no-untyped-call]

    def _set_seed(self) -> None:
        """Leave the random numbers of the process alone."""

    def before_instantiate_classes(self) -> None:
        """Choose no folder, as there is no run."""


class RecipeSchema(ParserJsonschema):
    """jsonargparse's generator, with limbeck's classes."""

    def subclass_def(self, class_type: type, action: Any) -> Schema:
        """A class path with arguments, or these alone where the class itself is exported."""
        known = class_paths(class_type)
        stated = _class_path({"anyOf": [{"enum": known}, {"pattern": _OF_OTHERS}]})
        stated["type"] = ["string", "object"]  # a class path alone, or the file of either
        stated["allOf"] = [self._arguments_of(path, action) for path in known]
        own = [path for path in known if path.endswith(f".{class_type.__name__}")]
        alone = [self.class_parser_schema(path, action) for path in own]
        return {"anyOf": [stated, *alone]} if alone else stated

    def _arguments_of(self, path: str, action: Any) -> Schema:
        """What the arguments are where the class path is this one."""
        stated = {"properties": {"class_path": {"const": path}}, "required": ["class_path"]}
        arguments = self.class_parser_schema(path, action)
        return {"if": stated, "then": {"properties": {"init_args": arguments}}}

    def callable_schema(self, typehint: Any, action: Any) -> Schema:
        """The path of a function, or a class whose objects are called."""
        return {"anyOf": [super().callable_schema(typehint, action), _class_path({})]}

    def tuple_schema(self, typehint: Any, action: Any) -> Schema:
        """A list, whose entries have any of the types: draft 7 has no prefixItems."""
        schema: Schema = super().tuple_schema(typehint, action)
        entries = schema.pop("prefixItems", None)
        if entries is None:
            return schema
        items = {"anyOf": [each for n, each in enumerate(entries) if each not in entries[:n]]}
        return {"type": "array", "items": items, "minItems": len(entries), "maxItems": len(entries)}


def _class_path(allowed: Schema) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "class_path": {"type": "string", **allowed},
            "init_args": {"type": "object"},
            "dict_kwargs": {"type": "object"},
        },
    }


def class_paths(base: type) -> list[str]:
    """The class paths that are proposed where an object of a class is expected.

    Args:
        base: The class.

    Returns:
        The paths of the classes and functions of the first package that exports any.
    """
    for name in PACKAGES:
        package = import_module(name)
        public = getattr(package, "__all__", vars(package))
        found = [each for each in public if _makes(getattr(package, each), base)]
        if found:
            return [f"{name}.{each}" for each in found]
    return []


def _makes(maker: Any, base: type) -> bool:
    """Whether this is a class, or a function, that gives objects of a class."""
    if inspect.isfunction(maker):
        maker = get_type_hints(maker).get("return")
    return isinstance(maker, type) and issubclass(maker, base) and not inspect.isabstract(maker)


def _relax(schema: Any) -> None:
    """Take out, in place, what a recipe that is laid over another one need not have."""
    for node in schema if isinstance(schema, list) else [schema]:
        if isinstance(node, dict):
            if node.get("additionalProperties") is False:
                node.pop("required", None)
                node["properties"].pop("$schema", None)
            for each in node.values():
                _relax(each)
