#!/usr/bin/env -S python3 -IS
"""Asks a server of this container how it is: `healthy 8000/health`. Slim images have no curl."""

import http.client
import sys

SECONDS = 4


def main(where: str) -> int:
    port, _, path = where.partition("/")
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=SECONDS)
    try:
        connection.request("GET", f"/{path}")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{where}: {error}\n")
        return 1
    sys.stdout.write(f"{where}: {status}\n")
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
