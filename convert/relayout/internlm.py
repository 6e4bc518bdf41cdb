"""InternLM v1 as Llama: the same tensors under the same names, with biases on the attention.

The two differ in what their configurations are called and in the tokenizer, which InternLM brings
as remote code over a SentencePiece model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import UnsupportedError
from convert.relayout import sentencepiece
from convert.relayout.layout import (
    GENERATION,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Json,
    generation,
    number,
    optional_json,
    text_of,
)
from convert.relayout.views import Rows, View
from convert.weights.tensors import TensorSource

_MODEL = "tokenizer.model"
_END_OF_ANSWER, _END_OF_QUESTION = "<eoa>", "<eoh>"
_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|System|>:' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|User|>:' + message['content'] + '<eoh>\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|Bot|>:' + message['content'] + '<eoa>\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Bot|>:' }}{% endif %}"
)
_KEPT = (
    "bos_token_id", "eos_token_id", "pad_token_id", "hidden_act", "hidden_size",
    "initializer_range", "intermediate_size", "max_position_embeddings", "num_attention_heads",
    "num_hidden_layers", "rms_norm_eps", "tie_word_embeddings", "torch_dtype", "dtype",
    "use_cache", "vocab_size",
)  # fmt: skip
_TABLE = "rotary_emb.inv_freq"
_DEFAULT_ROLES = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "</s>"}


class InternLM:
    """InternLMForCausalLM -> LlamaForCausalLM."""

    architecture = "InternLMForCausalLM"
    said = "InternLM v1 as Llama with attention biases"

    def config(self, config: Mapping[str, Any]) -> Json:
        heads = number(config, "num_attention_heads")
        biased = bool(config.get("bias", True))
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **{key: config[key] for key in _KEPT if key in config},
            "num_key_value_heads": config.get("num_key_value_heads", heads),
            "attention_bias": biased,
            "mlp_bias": False,
            **_rope(config),
        }

    def tensors(self, source: TensorSource, config: Mapping[str, Any]) -> View:
        return View(source, {n: Rows(n) for n in source.infos if not n.endswith(_TABLE)})

    def tokenizer(self, base: Path) -> dict[str, Json | str]:
        if (base / TOKENIZER).exists() and not (base / _MODEL).exists():
            return {}
        if not (base / _MODEL).exists():
            raise UnsupportedError(f"{base} has no {_MODEL}; InternLM v1 is read from that.")
        found = sentencepiece.read(base / _MODEL)
        config = optional_json(base / TOKENIZER_CONFIG)
        roles = _roles(base, config, found)
        special = {text: found.ids[text] for text in roles.values()}
        bos = roles["bos"] if config.get("add_bos_token", True) else None
        made: dict[str, Json | str] = {
            TOKENIZER: sentencepiece.tokenizer(found, special=special, bos=bos)
        }
        template = config.get("chat_template")
        stops = [found.ids[roles["eos"]]]
        if {_END_OF_ANSWER, _END_OF_QUESTION} <= found.ids.keys():
            template = template or _CHAT
            stops.append(found.ids[_END_OF_ANSWER])
        if isinstance(template, str):
            made[TEMPLATE] = template
        made[TOKENIZER_CONFIG] = _tokenizer_config(config, roles, template)
        made[GENERATION] = generation(base, stops)
        return made


def _rope(config: Mapping[str, Any]) -> Json:
    """Positions: later revisions of InternLM say them in a section of their own."""
    section = config.get("rotary") or {}
    theta = section.get("base", config.get("rope_theta", 10000))
    kind = section.get("type", "origin")
    if kind == "dynamic":
        factor = float(section.get("scaling_factor", 1.0))
        scaling = {"rope_type": "dynamic", "type": "dynamic", "factor": factor}
        return {"rope_theta": theta, "rope_scaling": scaling}
    if kind != "origin":
        raise UnsupportedError(f"config.json: there is no rule for rotary positions of {kind}.")
    return {"rope_theta": theta, "rope_scaling": config.get("rope_scaling")}


def _roles(base: Path, config: Json, found: sentencepiece.Pieces) -> dict[str, str]:
    roles = {
        role: text_of(config.get(f"{role}_token")) or text for role, text in _DEFAULT_ROLES.items()
    }
    for text in roles.values():
        if text not in found.ids:
            raise UnsupportedError(f"{base}: its special token {text} is not in {_MODEL}.")
    return roles


def _tokenizer_config(config: Json, roles: Mapping[str, str], template: Any) -> Json:
    kept = ("add_bos_token", "add_eos_token", "model_max_length", "padding_side")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is
        "clean_up_tokenization_spaces": False,
        **{key: config[key] for key in kept if key in config},
        **{f"{role}_token": text for role, text in roles.items()},
        **({"chat_template": template} if template else {}),
    }
