"""What a recipe may say where it takes a class path, in limbeck's own words."""

import re

_DATASET = "the class path of a limbeck.data.VisionDataset"
_MODEL = "the class path of a torch.nn.Module, or of a function that returns one"
_METRICS = "{metrics}"
_EXPECTED = {
    "model.student": _MODEL,
    "model.teacher": _MODEL,
    "model.teachers": f"names of the user's choice, each with {_MODEL}",
    "model.methods": "names of the user's choice, each with the class path of a "
    "limbeck.methods.Method",
    "model.metric": f"auto, {_METRICS}, or the class path of a torchmetrics.Metric (or "
    "of a function annotated to return one) whose first argument is the list of class names",
    "model.learning_rate.shape": "constant, step, cosine, one_cycle, or the path of a function (or "
    "of a class whose objects are called) that takes the share of training that is done, 0 to 1, "
    "and gives the factor on the learning rate",
    "data.train": _DATASET,
    "data.unlabelled": "limbeck.data.Images, or the class path of one that is derived from it",
    "data.val": _DATASET,
    "trainer.callbacks": "class paths of lightning.pytorch.callbacks.Callback, in a list",
    "data.augmentation": "the class path of a limbeck.data.Augmentation",
}
_KEY = re.compile(r'Parser key "([\w.]+)"')
_ABSENT = re.compile(
    r"(?:class_path '([\w.]+)':\s+)?"
    r"(No module named '[\w.]+'|module '[\w.]+' has no attribute '\w+')"
)
_GIVEN = re.compile(
    r"Expected a path but (.+) either not accessible|Given value: (.+)|given class_path '([\w.]+)'"
    r"|Import path ([\w.]+) does not"
)
_OTHERWISE_WRONG = re.compile(r"Problem with given class_path|is not accepted")


def expected_for(key: str, otherwise: str) -> str:
    """What a key of a recipe takes.

    Args:
        key: The dotted key.
        otherwise: What is said of a key that is not known here.

    Returns:
        The words that follow "Expected".
    """
    said = _EXPECTED.get(key, otherwise)
    if _METRICS in said:
        from limbeck.training.scoring import METRICS  # with torch, which other messages do without

        said = said.replace(_METRICS, ", ".join(METRICS))
    return said


def wrong_class_path(message: str) -> str | None:
    """What to say instead of jsonargparse where a class path is wrong.

    Args:
        message: What jsonargparse says, a line for each type that the key may have.

    Returns:
        What the key is and what was expected; None where the message is about something else.
    """
    key, given, absent = (found.search(message) for found in (_KEY, _GIVEN, _ABSENT))
    if key is None or given is None or (absent is None and key[1] not in _EXPECTED):
        return None
    if absent is None and _OTHERWISE_WRONG.search(message):
        return None
    found = given[given.lastindex or 0]
    if absent is not None:
        found = f"{absent[1] or found}, which cannot be imported ({absent[2]})"
    expected = expected_for(key[1], "the path of a class or of a function")
    return f"{key[1]} names {found}. Expected {expected}. Give that instead."
