"""What a quantisation has made and how good it is; becomes part of a workspace's manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.fidelity.quantised import Fidelity
from convert.forward.calibration import Calibration
from convert.quantize.settings import Settings


@dataclass(frozen=True, slots=True)
class Quantised:
    """A finished model folder."""

    folder: Path
    settings: Settings
    quantization: dict[str, Any]
    """The `quantization_config` of its config.json."""
    calibration: Calibration
    fidelity: Fidelity

    def manifest(self) -> dict[str, Any]:
        """For the lineage: from what, how, and how close."""
        windows, positions = self.calibration.used.shape
        return {
            "tool": self.settings.tool,
            "method": self.settings.method,
            "quantization_config": self.quantization,
            "device": self.settings.device,
            "calibration": {
                "sha256": self.calibration.sha256,
                "dialogues": self.calibration.dialogues,
                "windows": windows,
                "seqlen": positions,
            },
            "fidelity": {**self.fidelity.manifest(), "limit": self.settings.limit},
        }
