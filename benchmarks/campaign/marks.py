"""A callback for the campaign's recipes: it says outside the run's folder how far training came."""

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as L


class Steps(L.Callback):
    """Writes the number of optimizer steps into the file that ``CAMPAIGN_STEPS`` names."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Training has begun."""
        self._write(f"begun {trainer.global_step}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Training has come to its end."""
        self._write(f"ended {trainer.global_step}")

    def _write(self, text: str) -> None:
        if path := os.environ.get("CAMPAIGN_STEPS"):
            Path(path).write_text(text)
