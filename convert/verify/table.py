"""All the rules, in one table: what is checked, and what would happen without."""

from __future__ import annotations

from convert.verify import engine_rules, folder_rules, gguf_rules, model_rules, text_rules
from convert.verify import weight_rules as weights
from convert.verify.report import LLAMACPP, TURBOMIND, Rule
from convert.verify.view import (
    CONFIG,
    GENERATION,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
)
from convert.weights.safetensors_files import INDEX
from convert.workspace import ENGINE, MANIFEST

BOTH = (TURBOMIND, LLAMACPP)

RULES = (
    Rule(
        1, "architecture",
        "TurboMind has code for some architectures; for others LMDeploy falls back to its PyTorch "
        "engine with one line in the log, or dies.",
        model_rules.supported_architecture, owns=(CONFIG,),
    ),
    Rule(
        2, "quantisation",
        "The loader asserts method, version and bits of quantization_config and ends the process.",
        model_rules.known_quantization,
    ),
    Rule(
        3, "group size",
        "There are 4-bit kernels for some group sizes only; the loader raises for others.",
        model_rules.known_group_size,
    ),
    Rule(
        4, "layers",
        "A tensor that is missing, of another shape or of a number format no kernel takes ends the "
        "start after minutes of loading.",
        weights.loadable_layers,
    ),
    Rule(
        5, "groups",
        "A 4-bit matrix whose scales do not cover it in whole groups is decoded to wrong numbers, "
        "or ends the start while it is packed.",
        weights.whole_groups,
    ),
    Rule(
        6, "one set of files",
        "Of several sets of weights the loader takes one by name, without a word; a stale file "
        "beside new ones wins.",
        weights.one_set_of_files,
    ),
    Rule(
        7, "headers",
        "A shard that is cut short, missing or not what the index says ends the start, or is "
        "served with tensors of another model.",
        weights.true_headers, owns=(WEIGHTS, INDEX),
    ),
    Rule(
        8, "model format",
        "A --model-format other than the config's quantisation is refused at start.",
        model_rules.matching_format,
    ),
    Rule(
        9, "number format",
        "TurboMind computes in fp16 or bf16; what config.json does not say truthfully is narrowed "
        "in silence.",
        model_rules.known_dtype,
    ),
    Rule(
        10, "rope",
        "An unknown scaling of positions raises while the model is built.",
        model_rules.known_rope,
    ),
    Rule(
        11, "head size",
        "Attention kernels are compiled for some head sizes; with another the first request ends "
        "the process, because the loader does not look.",
        model_rules.compiled_head_dim,
    ),
    Rule(
        12, "split",
        "Heads, hidden size and groups of scales must divide among the ranks, or the loader "
        "raises while it splits.",
        engine_rules.divisible,
    ),
    Rule(
        13, "ranks",
        "Not every tp, dp, cp and ep can be laid over GPUs; the engine refuses at start.",
        engine_rules.possible_ranks, owns=(ENGINE,), engines=BOTH,
    ),
    Rule(
        14, "tied embeddings",
        "TurboMind believes tie_word_embeddings: a trained output layer is ignored where it is "
        "true, and missed where it is not.",
        model_rules.truthful_tie,
    ),
    Rule(
        15, "token ids",
        "An id beyond the embedding reads memory that is not the model's; a stop token that is not "
        "listed lets every answer run on to its limit.",
        text_rules.known_ids,
        owns=(TOKENIZER, TOKENIZER_CONFIG, GENERATION), engines=BOTH,
    ),
    Rule(
        16, "chat template",
        "Without one LMDeploy serves the bare text, without roles and without stops: the model "
        "answers garbage and nothing says so.",
        text_rules.speaking_template, owns=(TEMPLATE,), engines=BOTH,
    ),
    Rule(
        17, "session length",
        "Positions the model was never trained on give garbage; LMDeploy only warns.",
        engine_rules.reachable_length,
    ),
    Rule(
        18, "cache share",
        "A share of 1 or more ends the process after the weights are loaded; the command line "
        "takes it.",
        engine_rules.share_of_memory,
    ),
    Rule(
        19, "cache bits",
        "A quant_policy other than 0, 4 and 8 is refused at start.",
        engine_rules.known_policy,
    ),
    Rule(
        20, "numbers",
        "One NaN or infinity makes every answer garbage, and so does a number that fp16 cannot "
        "hold.",
        weights.sound_numbers,
    ),
    Rule(
        21, "remote code",
        "An auto_map entry without its file sends the tokenizer to a hub, or fails at start.",
        text_rules.code_is_here,
    ),
    Rule(
        22, "closed folder",
        "A pickle can run code; a file changed, added or gone is a workspace nobody built.",
        folder_rules.closed, owns=(MANIFEST,), engines=BOTH,
    ),
    Rule(
        23, "fidelity",
        "A bad quantisation loads and answers, only worse; the measurement made when it was built "
        "is the one thing that shows it.",
        folder_rules.faithful,
    ),
    Rule(
        24, "gguf",
        "llama.cpp ends at start for a GGUF that is cut short or lacks tensors, and cuts off "
        "conversations longer than the model was trained for.",
        gguf_rules.readable, engines=(LLAMACPP,),
    ),
)  # fmt: skip
"""1 to 23 are what can go wrong on TurboMind; some hold for llama.cpp too, and 24 is its own."""
