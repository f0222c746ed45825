"""What is wrong with a method between the models that it is given."""


class NoTeacherError(ValueError):
    """A method has no teacher to learn from.

    Args:
        need: What needs the teacher, as a main clause.
        otherwise: What to do without one.
    """

    def __init__(
        self,
        need: str = "this method needs a teacher",
        otherwise: str = "leave the method out (model.methods)",
    ) -> None:
        super().__init__(f"{need}, and there is none. Give one (model.teacher), or {otherwise}.")
