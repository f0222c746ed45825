"""INT8: which layers of a network compute in 8 bits, and training that feels the rounding.

A quantized network is the same network, whose modules keep their names, in which the weights and
the inputs of convolutions and linear layers are rounded to 256 values, as an INT8 runtime rounds
them (Jacob et al., CVPR 2018, arXiv 1712.05877). So it is measured, distilled, saved and exported
as any other. Its numbers are floats all the same: it is slower than the network that it was. What
makes it fast is the file that is exported of it.

:func:`planned` decides what is quantized, :func:`quantize` does it, and :func:`calibrate` finds the
ranges of the values on images. Training it further is quantization-aware training, and with a
teacher it is distilled meanwhile.
"""

from limbeck.quantization.calibration import calibrate
from limbeck.quantization.fake_quantize import FakeQuantize
from limbeck.quantization.plan import Quantization, planned
from limbeck.quantization.quantize import in_floats, quantize

__all__ = ["FakeQuantize", "Quantization", "calibrate", "in_floats", "planned", "quantize"]
