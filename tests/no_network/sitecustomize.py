"""With this folder on PYTHONPATH a Python process reaches nothing but this machine.

Every attempt is refused and noted in the file that STUDIO_TEST_NETWORK_LOG names. Standard library only.
"""

from __future__ import annotations

import os
import sys
from typing import Any

LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", None)


def guard(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) and address else ""  # a Unix socket's address is text
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = args[0]
    else:
        return
    name = host.decode("utf-8", "replace") if isinstance(host, bytes) else host
    if name not in LOOPBACK:
        log = os.environ.get("STUDIO_TEST_NETWORK_LOG")
        if log:
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{event} {name}\n")
        raise OSError(f"{event} of {name}: a test must not leave this machine")


sys.addaudithook(guard)
