"""Qwen v1 as Qwen2: fused attention cut in three, feed-forward halves named for what they do.

Beyond the length it was trained at (`seq_length`), Qwen v1 stretches its positions and scales its
queries (`use_dynamic_ntk`, `use_logn_attn`), which Qwen2 does not know. Up to that length both do
nothing, so the context ends there and the two models are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import UnsupportedError
from convert.relayout import tiktoken
from convert.relayout.layout import (
    GENERATION,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Json,
    generation,
    number,
    optional_json,
)
from convert.relayout.views import Rows, View
from convert.weights.tensors import TensorSource

_VOCABULARY = "qwen.tiktoken"
_END, _START_TURN, _END_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_SPECIAL = (_END, _START_TURN, _END_TURN, *(f"<|extra_{i}|>" for i in range(205)))
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHAT = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_PLAIN = {
    "transformer.wte.weight": "model.embed_tokens.weight",
    "transformer.ln_f.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
_IN_LAYER = {
    "ln_1.weight": "input_layernorm.weight",
    "ln_2.weight": "post_attention_layernorm.weight",
    "attn.c_proj.weight": "self_attn.o_proj.weight",
    "mlp.w1.weight": "mlp.up_proj.weight",
    "mlp.w2.weight": "mlp.gate_proj.weight",
    "mlp.c_proj.weight": "mlp.down_proj.weight",
}
_FUSED = ("q_proj", "k_proj", "v_proj")
_LAYER = "transformer.h."
_TABLE = "rotary_emb.inv_freq"


class Qwen:
    """QWenLMHeadModel -> Qwen2ForCausalLM."""

    architecture = "QWenLMHeadModel"
    said = "Qwen v1 as Qwen2"

    def config(self, config: Mapping[str, Any]) -> Json:
        _refuse(config)
        heads = number(config, "num_attention_heads")
        kept = ("initializer_range", "torch_dtype", "dtype", "use_cache")
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_act": "silu",
            "hidden_size": number(config, "hidden_size"),
            "intermediate_size": number(config, "intermediate_size") // 2,
            "max_position_embeddings": number(config, "seq_length"),
            "num_attention_heads": heads,
            "num_hidden_layers": number(config, "num_hidden_layers"),
            "num_key_value_heads": heads,
            "rms_norm_eps": config.get("layer_norm_epsilon", 1e-6),
            "rope_theta": config.get("rotary_emb_base", 10000),
            "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
            "use_sliding_window": False,
            "vocab_size": number(config, "vocab_size"),
            **{key: config[key] for key in kept if key in config},
        }

    def tensors(self, source: TensorSource, config: Mapping[str, Any]) -> View:
        rows: dict[str, Rows] = {}
        for name in source.infos:
            if not name.endswith(_TABLE):
                rows |= _renamed(name, number(config, "hidden_size"))
        return View(source, rows)

    def tokenizer(self, base: Path) -> dict[str, Json | str]:
        if not (base / _VOCABULARY).exists():
            raise UnsupportedError(f"{base} has no {_VOCABULARY}; Qwen v1 is read from that.")
        tokens = tiktoken.ranks(base / _VOCABULARY)
        ids = {text: len(tokens) + place for place, text in enumerate(_SPECIAL)}
        kept = ("model_max_length", "padding_side")
        config = optional_json(base / TOKENIZER_CONFIG)
        return {
            TOKENIZER: tiktoken.tokenizer(tokens, _SPECIAL, _WORDS),
            TEMPLATE: _CHAT,
            TOKENIZER_CONFIG: {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": False,
                **{key: config[key] for key in kept if key in config},
                "eos_token": _END_TURN,
                "pad_token": _END,
                "chat_template": _CHAT,
            },
            GENERATION: generation(base, [ids[_END_TURN], ids[_END]]),
        }


def _refuse(config: Mapping[str, Any]) -> None:
    """What Qwen2 has no way to say."""
    width = number(config, "num_attention_heads") * config.get("kv_channels", 128)
    odd = {
        "kv_channels": width != number(config, "hidden_size"),
        "rotary_pct": config.get("rotary_pct", 1.0) != 1.0,
        "no_bias": not config.get("no_bias", True),
        "scale_attn_weights": not config.get("scale_attn_weights", True),
    }
    for key, is_odd in odd.items():
        if is_odd:
            raise UnsupportedError(
                f"config.json: Qwen v1 with {key}: {config.get(key)} cannot be laid out as Qwen2."
            )


def _renamed(name: str, hidden: int) -> dict[str, Rows]:
    if name in _PLAIN:
        return {_PLAIN[name]: Rows(name)}
    layer, _, rest = name.removeprefix(_LAYER).partition(".")
    if rest in _IN_LAYER:
        return {f"model.layers.{layer}.{_IN_LAYER[rest]}": Rows(name)}
    leaf = rest.removeprefix("attn.c_attn.")
    if leaf not in ("weight", "bias"):
        raise UnsupportedError(
            f"Qwen v1 has no tensor {name}; the model cannot be converted to Qwen2."
        )
    return {
        f"model.layers.{layer}.self_attn.{part}.{leaf}": Rows(name, place * hidden, hidden)
        for place, part in enumerate(_FUSED)
    }
