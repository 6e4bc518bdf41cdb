"""Every way a workspace is damaged in the tests, and which rules must say so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.weights.dtypes import encode
from convert.weights.safetensors_files import INDEX
from tests.convert.verify.made import (
    AWQ,
    FIDELITY,
    HIDDEN,
    VOCAB,
    Tensors,
    edit,
    edit_tensors,
    plain_tensors,
    write_json,
    write_tensors,
)

LAYER = "model.layers.0"
DOWN = f"{LAYER}.mlp.down_proj"


@dataclass(frozen=True)
class Damage:
    """What is done to a good workspace."""

    rule: int
    name: str
    do: Callable[[Path], object]
    quantised: bool = False
    resealed: bool = True
    """Whether the manifest is written anew, as if the folder had been built so."""
    tp: int | None = None

    def __str__(self) -> str:
        return f"{self.rule}-{self.name}"


def set_config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", **changes)


def set_engine(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "engine.json", **changes)


def set_tokens(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer_config.json", **changes)


def set_quantization(**changes: Any) -> Callable[[Path], None]:
    return set_config(quantization_config=AWQ | changes)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def with_file(name: str, text: str = "") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def with_template(text: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
        edit(folder / "tokenizer_config.json", chat_template=text)

    return do


def with_tensors(change: Callable[[Tensors], object]) -> Callable[[Path], None]:
    return lambda folder: edit_tensors(folder, change)


def dropped(name: str) -> Callable[[Path], None]:
    return with_tensors(lambda tensors: tensors.pop(name))


def reshaped(name: str, kind: str, shape: tuple[int, ...]) -> Callable[[Path], None]:
    dtype = np.int32 if kind == "I32" else np.uint16
    return with_tensors(lambda tensors: tensors.update({name: (kind, np.zeros(shape, dtype))}))


def with_number(number: float, dtype: str = "BF16") -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        values = np.full((HIDDEN,), 0.5, np.float32)
        values[77] = number
        tensors["model.norm.weight"] = (dtype, encode(values, dtype))

    return change


def overflowing(folder: Path) -> None:
    edit_tensors(folder, with_number(70000.0))
    edit(folder / "engine.json", dtype="float16")


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lying_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(
        raw.replace(b'"dtype":"BF16","shape":[128]', b'"dtype":"BF16","shape":[127]', 1)
    )


def indexed(**wrong: str) -> Callable[[Path], None]:
    """Put the weights under an index, which says something `wrong` of them."""

    def do(folder: Path) -> None:
        tensors = plain_tensors()
        tensors |= {name: tensors["model.norm.weight"] for name in wrong if name not in tensors}
        names = sorted(tensors)
        shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        half = {name: shards[i % 2] for i, name in enumerate(names)}
        for shard in shards:
            part = {name: tensors[name] for name in names if half[name] == shard}
            write_tensors(folder / shard, part)
        (folder / "model.safetensors").unlink()
        listed = half | {k: v for k, v in wrong.items() if v != "left out"}
        write_json(
            folder / INDEX,
            {"weight_map": {k: v for k, v in listed.items() if wrong.get(k) != "left out"}},
        )

    return do


def stale_shard(folder: Path) -> None:
    one = dict(list(plain_tensors().items())[1:2])
    write_tensors(folder / "model-00001-of-00002.safetensors", one)


def stray_shard(folder: Path) -> None:
    write_tensors(folder / "adapter.safetensors", dict(list(plain_tensors().items())[1:2]))


def far_token(folder: Path) -> None:
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found["added_tokens"].append({**found["added_tokens"][-1], "id": VOCAB, "content": "<|far|>"})
    write_json(path, found)


def unlisted_stop(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token="<|endoftext|>")
    edit(folder / "generation_config.json", eos_token_id=[3])


def untied_head(folder: Path) -> None:
    head = np.full((VOCAB, HIDDEN), 0x3C00, np.uint16)
    edit_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": ("BF16", head)}))


def odd_inputs(folder: Path) -> None:
    """192 inputs are a group of 128 and a half."""
    edit(folder / "config.json", intermediate_size=192)

    def change(tensors: Tensors) -> None:
        for name in ("gate_proj", "up_proj"):
            for kind, rows in (("qweight", HIDDEN), ("qzeros", 1)):
                zeros = np.zeros((rows, 192 // 8), np.int32)
                tensors[f"{LAYER}.mlp.{name}.{kind}"] = ("I32", zeros)
            tensors[f"{LAYER}.mlp.{name}.scales"] = ("BF16", np.zeros((1, 192), np.uint16))
        tensors[f"{DOWN}.qweight"] = ("I32", np.zeros((192, HIDDEN // 8), np.int32))
        tensors[f"{DOWN}.qzeros"] = ("I32", np.zeros((1, HIDDEN // 8), np.int32))
        tensors[f"{DOWN}.scales"] = ("BF16", np.zeros((1, HIDDEN), np.uint16))

    edit_tensors(folder, change)


def set_fidelity(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "manifest.json", lineage={}, fidelity=FIDELITY | changes)


def changed_file(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")


ROLES = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
GOOD = ROLES + "{{ m['content'] }}<|im_end|>\n{% endfor %}"

DAMAGES = (
    Damage(1, "retired", set_config(architectures=["InternLMForCausalLM"])),
    Damage(1, "misspelt", set_config(architectures=["LamaForCausalLM"])),
    Damage(1, "unnamed", set_config(architectures=...)),
    Damage(1, "vision", set_config(architectures=["Glm4MoeLiteForCausalLM"], vision_config={})),
    Damage(1, "sizeless", set_config(hidden_size=...)),
    Damage(1, "not json", with_file("config.json", "{")),
    Damage(1, "not an object", with_file("config.json", "[]")),
    Damage(2, "gemv", set_quantization(version="gemv"), quantised=True),
    Damage(2, "3 bits", set_quantization(bits=3), quantised=True),
    Damage(3, "64", set_quantization(group_size=64), quantised=True),
    Damage(4, "no layer", dropped(f"{DOWN}.weight")),
    Damage(4, "no norm", dropped("model.norm.weight")),
    Damage(4, "no embedding", dropped("model.embed_tokens.weight")),
    Damage(4, "no zeros", dropped(f"{DOWN}.qzeros"), quantised=True),
    Damage(4, "no scales", dropped(f"{DOWN}.scales"), quantised=True),
    Damage(4, "integers", reshaped(f"{DOWN}.weight", "I32", (128, 256))),
    Damage(4, "another shape", reshaped(f"{DOWN}.weight", "BF16", (128, 128))),
    Damage(4, "bias", reshaped(f"{DOWN}.bias", "BF16", (127,))),
    Damage(4, "narrow scales", reshaped(f"{DOWN}.scales", "BF16", (2, 120)), quantised=True),
    Damage(5, "groups of 64", reshaped(f"{DOWN}.scales", "BF16", (4, 128)), quantised=True),
    Damage(5, "zeros", reshaped(f"{DOWN}.qzeros", "I32", (4, 16)), quantised=True),
    Damage(5, "half a group", odd_inputs, quantised=True),
    Damage(6, "stale shard", stale_shard),
    Damage(6, "stray shard", lambda folder: (indexed()(folder), stray_shard(folder))),
    Damage(7, "cut short", cut_short),
    Damage(7, "lying header", lying_header),
    Damage(7, "no weights", without("model.safetensors")),
    Damage(7, "missing shard", indexed(**{f"{DOWN}.weight": "model-00003-of-00003.safetensors"})),
    Damage(7, "wrong shard", indexed(**{"model.norm.weight": "model-00001-of-00002.safetensors",
                                        "model.embed_tokens.weight":
                                            "model-00002-of-00002.safetensors"})),
    Damage(7, "unlisted tensor", indexed(**{"model.extra": "left out"})),
    Damage(7, "no index", lambda folder: (indexed()(folder), with_file(INDEX, "{}")(folder))),
    Damage(8, "awq", set_engine(model_format="awq")),
    Damage(8, "hf", set_engine(model_format="hf"), quantised=True),
    Damage(9, "unknown", set_engine(dtype="float8")),
    Damage(9, "fp32", set_config(torch_dtype="float32")),
    Damage(9, "unsaid", set_config(torch_dtype=...)),
    Damage(9, "untrue", set_config(torch_dtype="float16")),
    Damage(10, "longrope", set_config(rope_scaling={"rope_type": "longrope", "factor": 4})),
    Damage(11, "32", set_config(num_attention_heads=4, num_key_value_heads=2, head_dim=32)),
    Damage(12, "heads", lambda folder: None, tp=4),
    Damage(12, "groups", lambda folder: None, tp=2, quantised=True),
    Damage(13, "none", set_engine(tp=0)),
    Damage(13, "words", set_engine(tp="2")),
    Damage(13, "contexts alone", set_engine(cp=2)),
    Damage(13, "no engine.json", without("engine.json")),
    Damage(14, "two heads", untied_head),
    Damage(14, "no head", set_config(tie_word_embeddings=False)),
    Damage(15, "far token", far_token),
    Damage(15, "far eos", lambda f: edit(f / "generation_config.json", eos_token_id=[5, VOCAB])),
    Damage(15, "unlisted stop", unlisted_stop),
    Damage(15, "unknown eos", set_tokens(eos_token="<|no such|>")),
    Damage(15, "spelt stop", with_template(GOOD.replace("<|im_end|>", "[END]"))),
    Damage(15, "no tokenizer", without("tokenizer.json")),
    Damage(15, "generation not json", with_file("generation_config.json", "{")),
    Damage(16, "none", lambda f: (without("chat_template.jinja")(f),
                                  set_tokens(chat_template=...)(f))),
    Damage(16, "not jinja", with_template("{% for %}")),
    Damage(16, "no roles", with_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")),
    Damage(16, "loses the user", with_template(GOOD.replace("m['content']", "''"))),
    Damage(16, "loses the system", with_template(GOOD.replace(
        "{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"))),
    Damage(16, "refuses", with_template("{{ raise_exception('no') }}")),
    Damage(16, "two texts", with_file("chat_template.jinja", GOOD + "{# another #}\n. ")),
    Damage(17, "too long", set_engine(session_len=4096)),
    Damage(17, "words", set_engine(session_len="1k")),
    Damage(18, "all", set_engine(cache_max_entry_count=1)),
    Damage(18, "none", set_engine(cache_max_entry_count=0)),
    Damage(18, "words", set_engine(cache_max_entry_count="0.8")),
    Damage(19, "16", set_engine(quant_policy=16)),
    Damage(20, "nan", with_tensors(with_number(float("nan")))),
    Damage(20, "infinite", with_tensors(with_number(float("-inf")))),
    Damage(20, "overflow", overflowing),
    Damage(21, "no code", set_tokens(auto_map={"AutoTokenizer": ["tokenization_x.X", None]})),
    Damage(21, "on a hub", set_config(auto_map={"AutoConfig": "some/where--configuration_x.X"})),
    Damage(22, "changed", changed_file, resealed=False),
    Damage(22, "added", with_file("notes.txt"), resealed=False),
    Damage(22, "gone", without("chat_template.jinja"), resealed=False),
    Damage(22, "pickle", with_file("optimizer.pth")),
    Damage(22, "no manifest", without("manifest.json"), resealed=False),
    Damage(22, "empty manifest", with_file("manifest.json", "{}"), resealed=False),
    Damage(23, "unmeasured", lambda f: edit(f / "manifest.json", lineage={}), quantised=True,
           resealed=False),
    Damage(23, "too far", set_fidelity(divergence=0.3), quantised=True, resealed=False),
    Damage(23, "beyond its own limit", set_fidelity(limit=0.001), resealed=False),
    Damage(23, "nan", set_fidelity(divergence=float("nan"), limit=None), resealed=False),
    Damage(23, "nan in a layer", set_fidelity(layer_error=[{"own": None}]), resealed=False),
)  # fmt: skip

SEALED_WITH = {"fidelity": FIDELITY}
