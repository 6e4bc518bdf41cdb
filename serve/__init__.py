"""What serves assistants: the gateway, the engine host and the page, which meet over HTTP only.

gateway    the OpenAI-compatible endpoint
engines    the engine host: starts, places and watches the engines of one machine
ui         the page

What two of them share, or the command shares with one, lies here:

addresses, ports         addresses to listen on; free ports
process, guard           child processes that never outlive their parent
state, engines_key       what engine host and gateway agree on: states, one key
declared, elsewhere      declarations that are read again; engines named by the environment
secret, log_reader       secrets from the environment or files; several log files read as one
reading, pace            a gateway's /metrics, parsed; rates computed from two readings
"""
