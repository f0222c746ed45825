"""OpenVINO's own format, from ONNX."""

from pathlib import Path
from tempfile import TemporaryDirectory

from limbeck.export.formats import onnx
from limbeck.export.formats.tracing import Program
from limbeck.exported.runtimes import needed


def write(path: Path, program: Program) -> None:
    """Write a module as OpenVINO's XML, and its weights beside it as ``.bin``.

    Args:
        path: The file, whose name ends with ``.xml``.
        program: What it is written of.

    Raises:
        ImportError: A package is not installed.
    """
    openvino = needed("openvino", "openvino")
    with TemporaryDirectory() as folder:
        between = Path(folder) / "model.onnx"
        onnx.write(between, program)
        model = openvino.convert_model(between)
        model.set_rt_info(program.description, "limbeck")
        # Weights that are float32 stay so: what is float16 was asked for.
        openvino.save_model(model, path, compress_to_fp16=False)
