"""The directive ``method-picture``, which shows what a method does on a real pair.

Its argument is the name of a page of ``docs/methods``. The picture is ``pictures/NAME.png`` there,
and ``pictures/captions.yaml`` has what is said below it, by the same name.
"""

from pathlib import Path

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class MethodPicture(SphinxDirective):
    """Shows a picture with its caption; a picture that is missing fails the build."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The figure."""
        name = self.arguments[0]
        folder = Path(self.env.doc2path(self.env.docname)).parent / "pictures"
        file, captions = folder / f"{name}.png", folder / "captions.yaml"
        for needed in (file, captions):
            self.env.note_dependency(str(needed))
            if not needed.is_file():
                raise self.error(f"The picture of {name} needs {needed}, which is not there.")
        told = yaml.safe_load(captions.read_text())
        if name not in told:
            raise self.error(f"{captions} has no caption for {name}; it has {', '.join(told)}.")
        caption = " ".join(told[name].split())
        image = nodes.image(uri=f"pictures/{file.name}", alt=caption)
        words = nodes.caption("", *self.parse_inline(caption)[0])
        return [nodes.figure("", image, words)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("method-picture", MethodPicture)
    return {"parallel_read_safe": True}
