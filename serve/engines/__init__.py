"""Runs engines on one host: starts, watches, replaces and stops them, and says how they are.

    app ─▶ api ─▶ host       the process, its HTTP API, and the host itself: whose engines there are
                   │
              supervision    what keeps each engine up: its lifecycle, its process, its updates
              ╱         ╲
        backends         memory      what kinds of engine there are; who gets which GPU, and
              ╲         ╱            who must leave for whom
    gateways, policy, site, version  what all of them go by

Each stands on what is below it and knows nothing of what is above. Gateways, the page and the
command speak with it over HTTP alone.
"""
