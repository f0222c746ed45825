from limbeck.report.trade_off import Point, plot_trade_off
from tests.report.test_curves import texts


def test_models_and_ways_are_named_and_small_differences_look_small(tmp_path):
    points = [
        Point("teacher", "PyTorch, eager", 60.0, 58.0, 65.0, 0.301),
        Point("student", "PyTorch, eager", 20.0, 19.0, 22.0, 0.300),
        Point("student", "onnx", 11.0, 10.5, 12.0, 0.299),
    ]
    plot_trade_off(points, tmp_path / "a.svg", "AP")
    written = texts(tmp_path / "a.svg")
    for name in ("teacher", "student", "PyTorch, eager", "onnx", "AP"):
        assert written.count(name) == 1
    scores = [float(text) for text in written if text.startswith("0.")]
    assert max(scores) - min(scores) > 0.035


def test_one_point_is_drawn(tmp_path):
    plot_trade_off([Point("a", "eager", 5.0, 5.0, 5.0, 0.0)], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
