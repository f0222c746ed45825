"""What jsonargparse says of a recipe, in limbeck's own words."""

import ast
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from limbeck.arguments import imported
from limbeck.commands.class_paths import expected_for, wrong_class_path
from limbeck.ranges import written

_REQUIRED = re.compile(r"the following arguments are required: ([\w., ]+)")
_UNKNOWN_KEY = re.compile(r"does not accept option '([^']+)'|arguments: --([\w.]+)")
_UNKNOWN_ARGUMENT = re.compile(r"Option '([^']+)' is not accepted")
_KEY = re.compile(r'Parser key "([\w.]+)"|Problem with given class_path \'([\w.]+)\'')
_TYPE = re.compile(
    r"Expected an? (<class '[\w.]+'>|typing\.Literal\[[^]]*\]|tuple with \d+|dot import)"
)
_RESTRICTED = re.compile(
    r"Not of type PositiveInt: (?:invalid literal .*: '(.+)'|(.+?) (?:does not conform|not an) )"
)
_GIVEN = re.compile(
    r"Expected a path but (.*) either not accessible|Got value: (.*)|Given value: (.*)"
)
# Keys of Lightning's whose types say more, or less, than what may be given.
_OF_LIGHTNING: Mapping[str, str] = {
    "seed_everything": "a whole number of 0 or more",
    "trainer.precision": "one of 16, 32, 64, bf16, 16-mixed, bf16-mixed, 16-true, bf16-true, "
    "32-true, 64-true, transformer-engine, transformer-engine-float16",
}
_WORDS: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "NoneType": "null",
    "list": "a list",
    "tuple": "a list",
    "Sequence": "a list",
    "dict": "a mapping",
    "Mapping": "a mapping",
    "Path": "a path",
}


def in_words(message: str, known: Collection[str]) -> str:
    """Say what jsonargparse says: the key, what was found, what was expected, what to do.

    Args:
        message: The message of jsonargparse.
        known: All keys of a recipe.

    Returns:
        The message in limbeck's words; the same one where it is of no known kind.
    """
    return (
        wrong_class_path(message)
        or _required(message)
        or _unknown_key(message, known)
        or _unknown_argument(message)
        or _wrong_type(message)
        or message
    )


def _required(message: str) -> str | None:
    found = _REQUIRED.search(message)
    if found is None:
        return None
    names = [name.strip() for name in found[1].split(",")]
    where = key_in(message)
    if where:
        missing = ", ".join(f"{where}.{name}" for name in names)
        maker = _makers(message)[0]
        return f"{missing}: missing; {maker} needs it. Expected a value; give it in the recipe."
    lines = []
    for name in names:
        key = re.sub(r"^(fit|validate)\.", "", name)
        expected = expected_for(key, "a value")
        where = " in a recipe" if "." in key else ""
        lines.append(f"{key} is missing. Expected {expected}. Give it{where}.")
    return "\n".join(lines)


def _unknown_key(message: str, known: Collection[str]) -> str | None:
    found = _UNKNOWN_KEY.search(message)
    if found is None:
        return None
    outer, part, names = first_unknown(found[1] or found[2], known)
    dashes = "--" if found[2] else ""
    there = sorted(f"{'' if outer else dashes}{name}" for name in names)
    place = f"{'.'.join(outer)} takes" if outer else "There are"
    what = f"{place} {', '.join(there)}" if 0 < len(there) < 25 else "--help lists what there is"
    key = ".".join([*outer, part])
    name = f"--{key}" if found[2] else repr(key)
    return f"{name} is not known. {what}. Correct it, or remove it."


def first_unknown(key: str, known: Collection[str]) -> tuple[list[str], str, set[str]]:
    """The first part of a dotted key that is not known.

    Args:
        key: The key.
        known: All keys.

    Returns:
        The parts before it, the part, and the parts that could stand in its place.
    """
    split = [name.split(".") for name in known]
    parts = key.split(".")
    there: set[str] = set()
    for depth, part in enumerate(parts):
        there = {n[depth] for n in split if n[:depth] == parts[:depth] and len(n) > depth}
        if part not in there:
            return parts[:depth], part, there
    return parts[:-1], parts[-1], there


def _unknown_argument(message: str) -> str | None:
    found = _UNKNOWN_ARGUMENT.search(message)
    makers = _makers(message[: found.start()]) if found else []
    if found is None or not makers:
        return None
    taken = ", ".join(arguments_of(makers[-1]))
    value = re.search(rf"'{re.escape(found[1])}': (\[.*?\]|[^,}}]+)", message)
    stated = f" (found {value[1]})" if value else ""
    return (
        f"{key_in(message[: found.start()])}: the argument {found[1]!r} is not accepted by "
        f"{makers[-1]}{stated}. Expected one of {taken}. Correct it, or remove it."
    )


def arguments_of(path: str) -> list[str]:
    """The names of the arguments that a class or a function takes, by its dotted path."""
    try:
        return list(inspect.signature(imported(path)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):
        return []


def _wrong_type(message: str) -> str | None:
    key = key_in(message)
    inner = message[message.rfind("Parser key") :]
    restricted = _RESTRICTED.search(inner)
    if key and restricted:
        found = restricted[1] or restricted[2]
        return f"{key} is {found}; expected a whole number above 0. Give it such a value."
    given = _GIVEN.search(inner)
    if not key or given is None:
        return None
    end = min(at for at in (inner.find("Got value"), inner.find("Given value type")) if at > 0)
    expected = [_OF_LIGHTNING[key]] if key in _OF_LIGHTNING else types_in(inner[:end])
    if not expected:
        return None
    found = next(value for value in given.groups() if value is not None)
    return f"{key} is {found}; expected {' or '.join(expected)}. Give it such a value."


def types_in(message: str) -> list[str]:
    """The types that a message of jsonargparse says were expected, in words."""
    words: list[str] = []
    choices: list[str] = []
    for found in _TYPE.findall(message):
        if found.startswith("typing.Literal"):
            choices += map(str, ast.literal_eval(found.removeprefix("typing.Literal")))
        elif found.startswith("tuple with"):
            words.append(f"a list of {found.rpartition(' ')[2]} values")
        elif found == "dot import":
            words.append("the dotted path of a class or function")
        else:
            kind = found.split("'")[1].rpartition(".")[2]
            words.append(_WORDS.get(kind, f"the class path and arguments of a {kind}"))
    if choices:
        words.insert(0, f"{'one of ' if len(choices) > 1 else ''}{', '.join(choices)}")
    return list(dict.fromkeys(words))


def key_in(message: str) -> str:
    """The dotted key that a message of jsonargparse is about, as it stands in a recipe."""
    key, within = "", False
    for name, maker in _KEY.findall(message):
        if maker:
            if within:
                break  # the next one of several types
            key, within = f"{key}{_entry(message, maker)}", True
        elif key:
            key, within = f"{key}.init_args.{name}" if within else f"{key}.{name}", False
        else:
            key = name
    return f"{key}.init_args" if within and _REQUIRED.search(message) else key


def _entry(message: str, maker: str) -> str:
    """The name under which a mapping in a recipe, as ``model.methods`` is one, has a class path."""
    stated = message.rpartition("Given value: ")[2]
    entries = re.findall(
        rf"'([^']+)': (?:{{'class_path': |Namespace\(class_path=)'{maker}'", stated
    )
    return f".{entries[0]}" if len(entries) == 1 else ""


def _makers(message: str) -> list[str]:
    """The class paths that a message says there is a problem with."""
    return [maker for _, maker in _KEY.findall(message) if maker]


def reasons_in(message: str) -> tuple[list[str], str]:
    """Why none of the types that a value may have could be built, and the value.

    Args:
        message: What jsonargparse says when it builds what a recipe states.

    Returns:
        The reasons of the constructors that were called, and the value as jsonargparse writes it.
    """
    errors, _, value = message.partition("\nGiven value type:")
    blocks = re.split(r"\n\s*- ", errors.partition("Errors:")[2])
    reasons = [re.sub(r"\s+", " ", block).strip() for block in blocks if block.strip()]
    foreign = ("Expected a", "Not a valid subclass", "Import path", "a class path", "a dict with")
    kept = [reason for reason in reasons if not reason.startswith(foreign)]
    return list(dict.fromkeys(kept)), value.partition("Given value: ")[2]


def key_of(stated: Any, value: str, name: str = "") -> str:
    """The dotted key of a value in a recipe, from what the value looks like.

    Args:
        stated: The values of all keys.
        value: The value as Python writes it.
        name: The last part of the key. Default (empty): any.

    Returns:
        The key; empty where there is none, or several are like that.
    """
    found = [
        key
        for key, each in entries(stated, "")
        if value in (str(each), written(each)) and name in ("", key.rpartition(".")[2])
    ]
    return found[0] if len(found) == 1 else ""


def entries(stated: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted keys of a recipe with their values; the items of a list have numbers.

    Args:
        stated: The values of all keys.
        prefix: What stands before every key.

    Yields:
        Each key, such as ``trainer.callbacks[0].init_args.monitor``, and its value.
    """
    for name, each in (stated if isinstance(stated, Mapping) else vars(stated)).items():
        numbered = enumerate(each if isinstance(each, list) else ())
        inner = {"": each} | {f"[{number}]": item for number, item in numbered}
        for number, value in inner.items():
            yield f"{prefix}{name}{number}", value
            if isinstance(value, Mapping) or hasattr(value, "as_dict"):
                yield from entries(value, f"{prefix}{name}{number}.")
