"""A shape of the learning rate."""


class Polynomial:
    """Lets the learning rate fall to 0 as a power of the share of training that is left.

    Args:
        power: The exponent; 1 is a straight line.
    """

    def __init__(self, power: float = 2.0) -> None:
        self.power = power

    def __call__(self, done: float) -> float:
        """The factor on the learning rate after a share of the training, 0 to 1."""
        return float((1 - done) ** self.power)
