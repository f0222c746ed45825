"""What is said of a detector in another library."""

from limbeck.checkpoints.libraries.format import unusual


def test_only_what_is_given_and_differs_is_unusual() -> None:
    usual = {"mean": (0.5,) * 3, "sizes": ((8, 16), (32, 64)), "threshold": 0.05, "depth": 4}
    given = {
        "depth": None,
        "threshold": 0.1,
        "sizes": [[8.0, 16.0], [32.0, 64.0]],
        "mean": [0.5, 0.5, 0.4],
        "further": 7,
    }
    assert list(unusual(given, usual).items()) == [("mean", [0.5, 0.5, 0.4]), ("threshold", 0.1)]


def test_values_of_another_shape_are_unusual() -> None:
    assert unusual({"sizes": ((8,),) * 2}, {"sizes": ((8,),) * 3}) == {"sizes": ((8,),) * 2}
