"""Pictures of what Matching Guided Distillation matches, while it trains."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L

from limbeck.methods import MGD, Step
from limbeck.names import file_names
from limbeck.report.matching import flow_matrix, matched_maps
from limbeck.training.writing import outlived


class MatchingPictures(L.Callback):
    """Draws the flow and some matched maps of every place of every MGD, at each validation.

    The pictures are ``matching/<method>_<place>_flow.png`` and ``..._maps.png`` in the run's
    folder, with the maps of the first validation image. Each replaces the one before. A recipe
    states this callback in ``trainer.callbacks``.

    Args:
        channels: The largest number of the student's channels whose maps are drawn, spread evenly
            over all.
    """

    def __init__(self, channels: int = 6) -> None:
        self.channels = channels

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the maps of the first image of the first batch."""
        module: Any = pl_module
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        calibrated = [
            (name, method)
            for name, method in module.pair.methods.items()
            if isinstance(method, MGD) and method.found_on
        ]
        if not calibrated:
            return
        images, targets = batch
        _, steps = module.pair.run(images[:1], targets[:1])
        places = [(name, method, place) for name, method in calibrated for place in method.places]
        files = file_names(
            {
                (name, place, what): f"{name}_{place.replace('.', '_')}_{what}.png"
                for name, _, place in places
                for what in ("flow", "maps")
            }
        )
        folder = Path(trainer.default_root_dir, "matching")
        for name, method, place in places:
            flow, maps = (folder / files[name, place, what] for what in ("flow", "maps"))
            with outlived(folder):
                self._draw(method, steps[name], place, f"{name}, {place}", flow, maps)

    def _draw(
        self, method: MGD, step: Step, place: str, title: str, flow_out: Path, maps_out: Path
    ) -> None:
        student, reduced, flow = method.matched(step, place)
        teacher = step.taught.features[place]
        found = f"{title}: flow found on {method.found_on} images"
        flow_matrix(flow.cpu(), teacher.shape[1], flow_out, found)
        shown = list(range(0, len(flow), -(-len(flow) // self.channels)))
        matched_maps(student[0], reduced[0], teacher[0], flow.cpu(), shown, maps_out, title)
