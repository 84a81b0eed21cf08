"""Loopback ports for servers that a test starts, and starts again."""
import errno
import os
import socket

FIRST, END = 20000, 32768

_claims = []
_next = FIRST + os.getpid() * 37 % (END - FIRST)


def _claimed(port):
    """An abstract socket's name, which is free again when its process has ended, however it ended."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0holdfast-test-port-{port}")
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    _claims.append(claim)
    return True


def _nobody_has(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def free_port():
    """A port that nobody has now and no other test takes as long as this process lives.

    It lies below those that the kernel gives to outgoing connections, one of which could otherwise have it while the server is
    down. src/state/testing/free_ports.h takes its ports in the same way.
    """
    global _next
    for _ in range(END - FIRST):
        port, _next = _next, _next + 1 if _next + 1 < END else FIRST
        if _claimed(port) and _nobody_has(port):
            return port
    raise AssertionError(f"no loopback port from {FIRST} to {END - 1} is free")
