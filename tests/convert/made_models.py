"""Tiny models of every layout as torch modules with random weights, and folders they lie in.

Where transformers has the architecture, the module is its own. InternLM v1 and InternLM2 exist only
as remote code; to an adapter a model is its named modules, so theirs are made by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

HIDDEN, INNER, VOCAB, HEADS, LAYERS = 24, 40, 37, 2, 2
State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Model:
    """One layout, and what an adapter may name in it."""

    name: str
    make: Callable[[], nn.Module]
    linears: tuple[str, ...]
    biased: tuple[str, ...]
    """Those of the linears that have a bias."""
    embedding: str = "embed_tokens"
    head: str = "lm_head"
    norm: str = "norm"
    layers: str = "layers"
    tied: bool = False
    transposed: bool = False
    """Linears are stored inputs × outputs (transformers' Conv1D)."""

    def module(self, dtype: torch.dtype = torch.bfloat16, *, untied: bool = False) -> nn.Module:
        """The same weights each time; `untied` gives the output a copy of its own."""
        made = randomised(self.make().to(torch.bfloat16))
        if untied and self.tied:
            made.lm_head.weight = nn.Parameter(made.lm_head.weight.detach().clone())
            made.config.tie_word_embeddings = False
        return made.to(dtype)

    def folder(self, path: Path, storage: str) -> Path:
        """The model as it is published; `storage` is one of `STORAGES`."""
        made = self.module()
        path.mkdir()
        (path / "config.json").write_text(json.dumps(self.config(made)))
        state = {name: tensor.contiguous() for name, tensor in made.state_dict().items()}
        if self.tied and storage != "bin":  # an archive keeps both names of the one storage
            del state["lm_head.weight"]
        STORAGES[storage](path, state)
        return path

    def config(self, made: nn.Module) -> dict[str, Any]:
        if isinstance(made, Named):
            return {"architectures": [self.name], "tie_word_embeddings": False, "bias": True}
        found: dict[str, Any] = made.config.to_dict()
        return found | {"architectures": [type(made).__name__]}


class Named(nn.Module):
    """A model that is nothing but its parameters' names and shapes."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], embedding: str, head: str) -> None:
        super().__init__()
        for name, shape in shapes.items():
            place, leaf = name.rsplit(".", 1)
            if leaf == "inv_freq":
                self._under(place, nn.Module()).register_buffer(leaf, torch.ones(shape))
            elif leaf == "weight" and len(shape) == 1:
                self._under(place, nn.Module()).weight = nn.Parameter(torch.ones(shape))
            elif leaf == "weight" and place.endswith(embedding):
                self._under(place, nn.Embedding(*shape))
            elif leaf == "weight":
                self._under(place, nn.Linear(shape[1], shape[0], bias=f"{place}.bias" in shapes))
        self._ends = embedding, head

    def _under(self, place: str, made: nn.Module) -> nn.Module:
        parent: nn.Module = self
        *above, last = place.split(".")
        for part in above:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, made)
        return made

    def get_input_embeddings(self) -> nn.Module:
        return self.get_submodule(f"model.{self._ends[0]}")

    def get_output_embeddings(self) -> nn.Module:
        return self.get_submodule(self._ends[1])


def randomised(made: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    for parameter in made.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = (0.1 * noise).to(parameter.dtype)
    return made


def of_transformers(kind: str, **changes: Any) -> Callable[[], nn.Module]:
    sizes = {
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": 1, "head_dim": HIDDEN // HEADS,
        "vocab_size": VOCAB, "max_position_embeddings": 64, "tie_word_embeddings": False,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip

    def make() -> nn.Module:
        config = getattr(transformers, f"{kind}Config")(**sizes | changes)
        made: nn.Module = getattr(transformers, f"{kind}ForCausalLM")(config)
        return made

    return make


def gpt2() -> nn.Module:
    sizes = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": HIDDEN, "vocab_size": VOCAB}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends, n_positions=64))


def internlm() -> nn.Module:
    """Llama's names, a bias on each projection of the attention, and a table in every layer."""
    llama = of_transformers("Llama", attention_bias=True, num_key_value_heads=HEADS)()
    shapes = {name: tuple(tensor.shape) for name, tensor in llama.state_dict().items()}
    for layer in range(LAYERS):
        shapes[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = (HIDDEN // HEADS // 2,)
    return Named(shapes, "embed_tokens", "lm_head")


def internlm2() -> nn.Module:
    shapes: dict[str, tuple[int, ...]] = {"model.tok_embeddings.weight": (VOCAB, HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.attention.wqkv.weight": (2 * HIDDEN, HIDDEN),
            f"{at}.attention.wo.weight": (HIDDEN, HIDDEN),
            f"{at}.feed_forward.w1.weight": (INNER, HIDDEN),
            f"{at}.feed_forward.w2.weight": (HIDDEN, INNER),
            f"{at}.feed_forward.w3.weight": (INNER, HIDDEN),
            f"{at}.attention_norm.weight": (HIDDEN,),
            f"{at}.ffn_norm.weight": (HIDDEN,),
        }
    shapes |= {"model.norm.weight": (HIDDEN,), "output.weight": (VOCAB, HIDDEN)}
    return Named(shapes, "tok_embeddings", "output")


def _single(path: Path, state: State) -> None:
    save_file(state, path / "model.safetensors", {"format": "pt"})


def _sharded(path: Path, state: State) -> None:
    """Dealt out in turn, so that what belongs together lies in different files."""
    where = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(state)}
    for file in set(where.values()):
        save_file({n: state[n] for n in state if where[n] == file}, path / file, {"format": "pt"})
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def _bin(path: Path, state: State) -> None:
    torch.save(state, path / "pytorch_model.bin")


STORAGES = {"single": _single, "sharded": _sharded, "bin": _bin}

_QKVO = ("q_proj", "k_proj", "v_proj", "o_proj")
_LLAMA = (*_QKVO, "gate_proj", "up_proj", "down_proj")
_CONV1D = ("c_attn", "c_proj", "c_fc")

MODELS = {
    model.name: model
    for model in (
        Model("Llama", of_transformers("Llama"), _LLAMA, ()),
        Model("Qwen2", of_transformers("Qwen2"), _LLAMA, _QKVO[:3]),
        Model("Qwen2-tied", of_transformers("Qwen2", tie_word_embeddings=True), _LLAMA, _QKVO[:3],
              tied=True),
        Model("Qwen3", of_transformers("Qwen3"), _LLAMA, ()),
        Model("InternLM2", internlm2, ("wqkv", "wo", "w1", "w2", "w3"), (),
              embedding="tok_embeddings", head="output"),
        Model("InternLM", internlm, _LLAMA, _QKVO),
        Model("GPT2", gpt2, _CONV1D, _CONV1D, embedding="wte", norm="ln_f", layers="h",
              transposed=True),
    )
}  # fmt: skip
