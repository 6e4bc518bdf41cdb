"""How a training names its tensors, and how Hugging Face and PEFT name the same ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from convert.errors import UnsupportedError

LANGUAGE_MODEL = "llm."
"""XTuner's module for the model being tuned."""

_WRAPPED = re.compile(r"\b(_checkpoint_wrapped_module|_orig_mod|_fsdp_wrapped_module)\.")
_ADAPTER = re.compile(r"\.(modules_to_save|lora_[A-Za-z_]+)\.default(?=\.|$)")
_MAGNITUDE = re.compile(r"\.lora_magnitude_vector\.weight$")
_REFERENCE = "ref_llm."
_BUFFERS = ("rotary_emb.inv_freq", "attn.masked_bias")
_EMBEDDINGS = ("embed_tokens.weight", "tok_embeddings.weight", "wte.weight")
OUTPUTS = ("lm_head.weight", "output.weight")
_MARK = ".lora_"


def buffer(name: str) -> bool:
    """Whether a tensor is a table that follows from the configuration."""
    return name.endswith(_BUFFERS)


def model_names(names: Iterable[str], where: str) -> dict[str, str]:
    """The model's own tensors, as Hugging Face names them, and what the checkpoint calls them.

    Raises:
        UnsupportedError: the checkpoint holds more than a language model.
    """
    found = {}
    for name in names:
        plain = _WRAPPED.sub("", name.removeprefix("module."))
        if plain.startswith(_REFERENCE) or buffer(plain):
            continue  # DPO's copy of the base; tables that follow from the configuration
        found[plain] = name
    if any(plain.startswith(LANGUAGE_MODEL) for plain in found):
        strange = [plain for plain in found if not plain.startswith(LANGUAGE_MODEL)]
        if strange:
            raise UnsupportedError(
                f"{where} holds {strange[0]} beside a language model; checkpoints of "
                "vision-language and reward models are not converted."
            )
    return {plain.removeprefix(LANGUAGE_MODEL): name for plain, name in found.items()}


def has_lora(names: Iterable[str]) -> bool:
    return any(_MARK in name for name in names)


def is_whole_model(names: Iterable[str]) -> bool:
    """Whether these are a model's weights: its embedding is the one thing every model has."""
    return any(name.endswith(_EMBEDDINGS) for name in names)


def peft_names(names: Mapping[str, str]) -> dict[str, str]:
    """The same tensors as PEFT saves them: without the name of the only adapter."""
    found = {}
    for plain, name in names.items():
        short = _ADAPTER.sub(lambda match: f".{match[1]}", plain)
        short = _MAGNITUDE.sub(".lora_magnitude_vector", short.replace(".modules_to_save.", "."))
        found[short if short.startswith("base_model.") else f"base_model.model.{short}"] = name
    return found


def lora_modules(names: Iterable[str]) -> list[str]:
    """The last words of all modules that have factors: what PEFT calls target modules."""
    modules = (name.partition(_MARK)[0] for name in names if _MARK in name)
    return sorted({module.rpartition(".")[2] for module in modules})


def saved_modules(names: Iterable[str]) -> list[str]:
    """The last words of all modules that were trained and saved whole."""
    mark = ".modules_to_save."
    modules = (name.partition(mark)[0] for name in names if mark in name)
    return sorted({module.rpartition(".")[2] for module in modules})
