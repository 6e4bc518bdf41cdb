"""A llama.cpp server over one GGUF file, in a process of its own that ends with its parent."""

from __future__ import annotations

import sys

from xllamacpp import xllamacpp


def main(model: str) -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_parallel = 1
    parameters.n_ctx = 512
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.use_jinja = True
    parameters.fit_params = False
    parameters.verbosity = 0
    # Greedy text is compared token by token, and two tokens may be a thousandth apart: nothing may
    # be rounded to fp16 on the way, as the cache is, and as flash attention does inside.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main(sys.argv[1])
