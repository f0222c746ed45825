"""The landmark ``pooled``: what the linear layer takes that ends a classifier."""

from torch import nn

from limbeck.tap import Tap


def pooled(model: nn.Module, path: str = "") -> dict[str, Tap]:
    """The place of the vectors (B, C) that the last layer of a classifier turns into logits.

    Dropout in front of that layer is left out: the vectors are those that go into it.

    Args:
        model: The model.
        path: The path of the network in it. Default (""): the model itself.

    Returns:
        The tap as ``pooled``; nothing where the network ends in no linear layer.
    """
    modules = dict(model.get_submodule(path).named_modules())
    trained = [n for n, m in modules.items() if next(m.parameters(recurse=False), None) is not None]
    if not trained or not isinstance(modules[trained[-1]], nn.Linear):
        return {}
    parent, _, last = trained[-1].rpartition(".")
    children = list(modules[parent].named_children())
    before = children[: [name for name, _ in children].index(last)]
    while before and isinstance(before[-1][1], nn.Dropout):
        last, _ = before.pop()
    return {"pooled": Tap(".".join(filter(None, (path, parent, last))), "input")}
