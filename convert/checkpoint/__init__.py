"""Reads what a training left: XTuner `.pth`, DeepSpeed folders, PEFT folders of either kind.

No training library, base model or configuration file is needed, and nothing of a checkpoint is
ever run: pickles pass an allow-list (`names`), configurations are parsed (`settings`).
"""

from convert.checkpoint.conversion import Converted, adapter_folder, convert_adapter, stand_in
from convert.checkpoint.newest import explained, files, is_checkpoint

__all__ = [
    "Converted",
    "adapter_folder",
    "convert_adapter",
    "explained",
    "files",
    "is_checkpoint",
    "stand_in",
]
