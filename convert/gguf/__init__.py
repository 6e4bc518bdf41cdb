"""GGUF, the one file llama.cpp loads: written from a model's folder, and read as one."""
