"""What the last layers of a dense head give, in one form for all families."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from limbeck.models.precision import in_full_precision
from limbeck.tap import Tap

PLACES = {
    name: Tap("last_layers", keys=(name,), kind="levels") for name in ("cls_maps", "box_maps")
}
Channels = tuple[str, slice]  # the path of a layer, and which of its channels are meant


class LastLayers(nn.Module):
    """The maps of the last layers of a head, where methods read them.

    The layers give float32 whatever the autocast, as does all that follows: scores are sorted by
    it, and coordinates of boxes need more than the 8 bits of bfloat16.

    Args:
        network: The network, whose layers are watched.
        layers: The layers of each kind of map, the finest level first.
        further: The paths of other layers that are to give float32.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Mapping[str, Sequence[Channels]],
        further: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.layers = layers
        self._seen: dict[str, Tensor] = {}
        paths = [path for of_kind in layers.values() for path, _ in of_kind]
        for path in dict.fromkeys([*paths, *further]):
            network.get_submodule(path).register_forward_hook(partial(self._note, path))

    def forward(self) -> dict[str, list[Tensor]]:
        """The maps of the network's last pass, which are then forgotten.

        Returns:
            For each kind of map a list over levels, (B, channels, H, W) each.
        """
        found = {
            kind: [self._seen[path][:, channels] for path, channels in of_kind]
            for kind, of_kind in self.layers.items()
        }
        self._seen.clear()
        return found

    def _note(self, path: str, layer: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        self._seen[path] = in_full_precision(output)
        return self._seen[path]
