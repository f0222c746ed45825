"""Classes are shown with the arguments of their constructors.

limbeck's models note how they were built in ``__new__``, which takes anything; Sphinx would show
that.
"""

from inspect import isclass
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature


def constructor_of(_app: Sphinx, _what: str, _name: str, shown: object, *_: Any) -> Any:
    """The arguments of a class's constructor; None leaves what Sphinx has found."""
    if not isclass(shown) or "__init__" not in vars(shown):
        return None
    arguments = signature(shown.__init__, bound_method=True)
    return stringify_signature(
        arguments, show_return_annotation=False, unqualified_typehints=True
    ), ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of it."""
    app.connect("autodoc-process-signature", constructor_of)
    return {"parallel_read_safe": True}
