"""How close a model is to what it was made of: measured while it is built, kept in its manifest.

`merge_fidelity` is the door for merges; `convert.quantize` judges its own work by
`convert.fidelity.quantised`.
"""

from __future__ import annotations

from pathlib import Path

from assistants import Assistant
from convert.errors import UnsupportedError
from convert.fidelity.report import MergeFidelity, Unmeasured
from convert.progress import Progress
from convert.weights.tensors import TensorSource

__all__ = ["MergeFidelity", "Unmeasured", "merge_fidelity"]


def merge_fidelity(
    base: Path,
    adapter: Path,
    merged: tuple[Path, TensorSource],
    assistant: Assistant,
    *,
    dialogues: Path | None,
    progress: Progress,
) -> MergeFidelity | Unmeasured:
    """Compare merged weights with base and adapter; `merged` is the folder that has the model's
    configuration and tokenizer, and where its weights are read from.

    A measurement that cannot be made keeps nobody from serving the model: the result says why.
    """
    try:
        import torch  # noqa: F401
    except (ImportError, OSError):  # OSError: a library of its own that is not there
        return Unmeasured("PyTorch, which computes it, is not installed where this was built")
    from convert.fidelity.merge import compare
    from convert.fidelity.text import text_for
    from convert.fidelity.unmerged import open_unmerged
    from convert.forward.calibration import CalibrationError
    from convert.forward.chat import read_chat
    from convert.forward.checkpoint import checkpoint_of
    from convert.weights.model_folder import read_json

    folder, source = merged
    try:
        text = text_for(assistant, dialogues, read_chat(folder))
        near = checkpoint_of(folder, read_json(folder / "config.json"), source)
        with open_unmerged(base, adapter) as true:
            layers = sum(map(true.base.layer_bytes, range(true.base.geometry.layers)))
            task = progress.task(f"judge {assistant.name}", layers)
            return compare(true, near, text, task)
    except (UnsupportedError, CalibrationError) as error:
        return Unmeasured(str(error))
