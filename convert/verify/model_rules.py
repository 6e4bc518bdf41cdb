"""Rules about what the model is: architecture, quantisation, number formats, positions, heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from assistants.errors import nearest
from convert.errors import UnsupportedError
from convert.geometry import FAMILIES, NAMES, architecture, is_tied, read_geometry
from convert.positions import rope_type
from convert.verify.report import REBUILD, Finding
from convert.verify.values import differ
from convert.verify.view import CONFIG, View
from convert.weights.packing import FLOATS, GROUP_SIZES
from convert.workspace import ENGINE

ARCHITECTURES = (
    "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM",
    "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration",
    "InternS2PreviewForConditionalGeneration", "InternS2MobiusForConditionalGeneration",
    "InternVLChatModel", "InternVLForConditionalGeneration", "InternS1ForConditionalGeneration",
    "LlamaForCausalLM", "InternLM2ForCausalLM", "InternLM3ForCausalLM", "Glm4MoeLiteForCausalLM",
    "GptOssForCausalLM", "MixtralForCausalLM",
)  # fmt: skip
"""What TurboMind 0.14 to 0.18 loads; a test holds the list against a real LMDeploy."""

RETIRED = {
    "InternLMForCausalLM": "Lay it out as Llama with attention biases: hanlin convert does so.",
    "QWenLMHeadModel": "Take a Qwen2 base or newer and train the adapter on that.",
    "BaichuanForCausalLM": "Take a base of a supported architecture.",
    "MistralForCausalLM": "Take a base of a supported architecture.",
}

HEAD_DIMS = (64, 128, 192, 256, 576)
"""Head sizes TurboMind's attention kernels are compiled for; 192 only from sm80 on."""

ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3", "mrope")

_HALF = {"float16": "F16", "bfloat16": "BF16"}


def supported_architecture(view: View) -> Iterator[Finding]:
    name = architecture(view.config)
    if name not in ARCHITECTURES:
        near = nearest(name, ARCHITECTURES)
        remedy = RETIRED.get(name) or (
            f"Did the config mean {near}?" if near else "Take a base of a supported architecture."
        )
        yield Finding(CONFIG, f"TurboMind does not load {name}.", remedy)
    elif name == "Glm4MoeLiteForCausalLM" and view.config.get("vision_config") is not None:
        yield Finding(
            CONFIG,
            f"TurboMind does not load {name} with vision.",
            "Remove vision_config from the base's config.json.",
        )
    elif name in FAMILIES:
        try:
            read_geometry(view.config)
        except UnsupportedError as error:
            yield Finding(CONFIG, str(error), "Take the config.json the base was published with.")


def known_quantization(view: View) -> Iterator[Finding]:
    found = view.quantization
    if found is None:
        return
    wrong = _wrong_quantization(found)
    if wrong:
        remedy = "Quantise again with hanlin quantize, which writes awq in the gemm layout."
        yield Finding(CONFIG, f"quantization_config: {wrong}.", remedy)


def _wrong_quantization(found: Any) -> str | None:
    method = found.get("quant_method")
    if method == "awq":
        wrong = {"version": found.get("version")} if found.get("version") != "gemm" else {}
        if found.get("bits", 4) != 4:
            wrong["bits"] = found["bits"]
        return f"awq is only loaded with {wrong} changed to gemm and 4 bits" if wrong else None
    if method == "gptq":
        bad = found.get("desc_act", False) or not found.get("sym", True)
        return "gptq is only loaded with desc_act false and sym true" if bad else None
    if method == "compressed-tensors":
        return _wrong_compressed(found)
    known = ("fp8", "mxfp4")
    return None if method in known else f"the method {method!r} is not loaded by TurboMind"


def _wrong_compressed(found: Any) -> str | None:
    try:
        group = found["config_groups"]["group_0"]
        weights = group["weights"]
        kind = (group["format"], weights["num_bits"], weights["type"])
    except (KeyError, TypeError):
        return "compressed-tensors needs config_groups.group_0 with format and weights"
    if kind != ("pack-quantized", 4, "int"):
        return f"compressed-tensors is only loaded as pack-quantized 4-bit int, not {kind}"
    return None


def group_size(view: View) -> int | None:
    """How many weights share a scale, as the loader reads it: 0 and none mean the usual."""
    found = view.quantization or {}
    if view.method == "compressed-tensors":
        groups = found.get("config_groups")
        size = groups["group_0"]["weights"].get("group_size") if isinstance(groups, dict) else None
    else:
        size = found.get("group_size")
    known = GROUP_SIZES.get(view.method or "")
    return (size or known[-1]) if known else None


def known_group_size(view: View) -> Iterator[Finding]:
    known = GROUP_SIZES.get(view.method or "")
    if not known:
        return
    size = group_size(view)
    if size not in known:
        allowed = " or ".join(map(str, known))
        yield Finding(
            CONFIG,
            f"group_size is {size}; TurboMind has {view.method} kernels for {allowed} only.",
            "Quantise again with that group size; where the hidden size is not divisible by 128, "
            "use compressed-tensors with group size 32.",
        )


def matching_format(view: View) -> Iterator[Finding]:
    flag = view.engine.get("model_format")
    expected = view.method or "hf"
    if flag not in (None, expected):
        yield Finding(
            ENGINE,
            f"model_format is {flag!r}, but the weights are {expected}.",
            REBUILD,
        )


def known_dtype(view: View) -> Iterator[Finding]:
    asked = view.engine.get("dtype", "auto")
    if asked not in ("auto", *_HALF):
        yield Finding(
            ENGINE,
            f"dtype is {asked!r}.",
            "There are auto, float16 and bfloat16; build it again with hanlin convert --force.",
        )
        return
    told = config_dtype(view)
    if told not in _HALF:
        yield Finding(
            CONFIG,
            f"torch_dtype is {told!r}; TurboMind computes in 16 bits and would narrow to bfloat16 "
            "without a word.",
            "Take a base in bfloat16 or float16 whose torch_dtype says so.",
        )
        return
    stored = _stored_dtype(view)
    if asked == "auto" and stored and stored != _HALF[told]:
        yield Finding(
            CONFIG,
            f"torch_dtype is {told}, but the weights are stored as {stored}.",
            "Let torch_dtype in the base's config.json say what its weights are, and build again.",
        )


def config_dtype(view: View) -> str | None:
    """The number format config.json declares, under either of its names."""
    for config in (view.config, view.config.get("text_config") or {}):
        found = config.get("dtype") or config.get("torch_dtype")
        if found:
            return str(found).removeprefix("torch.")
    return None


def compute_dtype(view: View) -> str:
    """The safetensors name of the format TurboMind would compute in."""
    asked = view.engine.get("dtype", "auto")
    return _HALF.get(asked) or _HALF.get(config_dtype(view) or "") or "BF16"


def _stored_dtype(view: View) -> str | None:
    """The format of most matrices of plain floats."""
    kinds = Counter(
        info.dtype
        for info in view.tensors.values()
        if info.dtype in FLOATS and len(info.shape) == 2 and info.name.endswith(".weight")
    )
    return kinds.most_common(1)[0][0] if kinds else None


def known_rope(view: View) -> Iterator[Finding]:
    kind = rope_type(view.config)
    if kind not in ROPE_TYPES:
        near = nearest(kind, ROPE_TYPES)
        yield Finding(
            CONFIG,
            f"the rope type {kind!r} is not known to TurboMind.",
            f"Did the config mean {near!r}?" if near else f"Known are {', '.join(ROPE_TYPES)}.",
        )


def compiled_head_dim(view: View) -> Iterator[Finding]:
    size = view.geometry.head_dim
    if size not in HEAD_DIMS:
        yield Finding(
            CONFIG,
            f"a head has {size} dimensions; attention kernels exist for "
            f"{', '.join(map(str, HEAD_DIMS))}.",
            "Serve this model with llama.cpp, or take a base with another head size.",
        )


def truthful_tie(view: View) -> Iterator[Finding]:
    names = NAMES[view.geometry.family]
    head = f"{names.head}.weight"
    if is_tied(view.config):
        if head in view.tensors and differ(view, head, names.embedding):
            yield Finding(
                CONFIG,
                f"tie_word_embeddings is true, so {head} is never read, and it is not the same as "
                f"{names.embedding}.",
                "Set tie_word_embeddings to false in the base's config.json, and build again.",
            )
    elif not any(name.startswith(f"{names.head}.") for name in view.tensors):
        yield Finding(
            CONFIG,
            f"tie_word_embeddings is not true, but there is no {head}.",
            "Set tie_word_embeddings to true in the base's config.json, and build again.",
        )
