"""The kinds of engine: what a host must know of an inference server to run it, and nothing else.

`engine` says what every kind answers: a command, three questions, its faults. There are two.
`llamacpp` runs `llamacpp_server`, a process of ours around the xllamacpp wheel. `turbomind` runs
LMDeploy by `turbomind_server`, which belongs to LMDeploy's Python and imports nothing of ours;
`lmdeploy` finds that Python, and `turbomind_faults` reads what it writes. Both read their settings
by `workspace` and ask their questions by `openai`. `registry` knows them by name: a new kind is a
file here and a line there.
"""
