"""Four-bit weights for TurboMind: activation-aware quantisation, one decoder layer in memory.

Nothing here is imported until somebody quantises: `quantize` is the door, and the only place that
asks for PyTorch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import UnsupportedError
from convert.progress import Progress, Unwatched
from convert.quantize.settings import Settings

if TYPE_CHECKING:
    from convert.quantize.report import Quantised

__all__ = ["Settings", "quantize", "require_torch"]


def quantize(
    model: Path,
    out: Path,
    *,
    calibration: Path,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Quantised:
    """Quantise a model folder into `out`, calibrated on a file of dialogues.

    An interrupted call leaves a folder beside `out`; the same call again takes it up from there
    and ends with the same bytes.

    Raises:
        UnsupportedError: PyTorch is missing, or the model has a layout there is no rule for.
        CalibrationError: the dialogues cannot be used.
        FidelityError: the result is further from the original than `settings.limit` allows.
    """
    settings = settings or Settings()
    require_torch()
    from convert.quantize.lmdeploy_tool import by_lmdeploy
    from convert.quantize.run import layer_by_layer

    steps = by_lmdeploy if settings.tool == "lmdeploy" else layer_by_layer
    return steps(model, out, calibration, settings, progress or Unwatched())


def require_torch() -> None:
    """Make sure that there is a PyTorch to compute with.

    Raises:
        UnsupportedError: there is none that can be loaded.
    """
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: a library of its own that is not there
        raise UnsupportedError(
            "Quantising computes with PyTorch, which is not installed here; install it with "
            f"'{sys.executable} -m pip install torch' (on a machine without a GPU add "
            "--index-url https://download.pytorch.org/whl/cpu)."
        ) from error
