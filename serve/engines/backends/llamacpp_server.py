"""The process of the embedded engine: llama.cpp's OpenAI server over one GGUF file.

Started by `backends.llamacpp`, with its options, and the key in its environment. It listens until
SIGTERM or SIGINT, writes only errors, and to stderr.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xllamacpp import xllamacpp  # the package itself re-exports without telling type checkers

from serve.engines_key import VARIABLE

HTTP_THREADS_BESIDE_SLOTS = 4
"""For health and state while every slot streams."""
PROMPT_CACHE_MIB = 64
"""For conversations that have lost their slot; llama.cpp's own 8 GiB are in nobody's plan."""
ERRORS = 1
"""llama.cpp warns at every prompt it finds in its cache."""

END_SECONDS = 3
"""How long llama.cpp may take to end; nothing is in flight by then that anybody waits for."""


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if not options.model.is_file():
        sys.stderr.write(f"There is no model file {options.model}.\n")
        return 1
    # Blocked before llama.cpp starts its threads, which inherit it: only sigwait sees the signals.
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    try:
        server = xllamacpp.Server(_parameters(options))
    except RuntimeError as error:
        sys.stderr.write(f"llama.cpp could not serve {options.model}: {error}\n")
        return 1
    signal.sigwait(endings)
    # Told to end when it has hardly begun, llama.cpp sometimes waits for itself for ever.
    signal.alarm(END_SECONDS)
    # Left to the interpreter's end, llama.cpp's threads are sometimes never joined.
    del server
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serve.engines.backends.llamacpp_server", description=__doc__
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", required=True, help="the name clients send as model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, default=1024, help="tokens per conversation")
    parser.add_argument("--parallel", type=int, default=4, help="conversations at once")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def _parameters(options: argparse.Namespace) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = os.fspath(options.model)
    parameters.model_alias = {options.alias}
    parameters.hostnames = [options.host]
    parameters.port = options.port
    parameters.n_parallel = options.parallel
    parameters.n_ctx = options.context * options.parallel  # llama.cpp divides it among the slots
    parameters.cpuparams.n_threads = options.threads
    parameters.cpuparams_batch.n_threads = options.threads
    parameters.n_threads_http = options.parallel + HTTP_THREADS_BESIDE_SLOTS
    parameters.use_jinja = True
    parameters.ui = False
    if key := os.environ.get(VARIABLE):
        parameters.api_keys = [key]
    parameters.cors_origins = ""  # no page of a browser has any business here
    parameters.cors_origins_explicit = True
    parameters.fit_params = False  # what is declared is what runs
    parameters.cache_ram_mib = PROMPT_CACHE_MIB
    parameters.verbosity = ERRORS
    return parameters


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
