"""A real machine for the system tests: hosts (mount namespaces), Docker engines, container images, holdfastd, leak checks.

Everything a test makes lies below one scratch folder and carries one test id (in the environment of its processes), so that
it can be told from what others do on the same machine, and can be cleaned up by that alone. See README.md.
"""
from harness.base import Failed, Skip, run, wait_until
from harness.case import SystemTest
from harness.docker import DockerEngine
from harness.holdfastd import Holdfastd
from harness.host import Host

__all__ = ["DockerEngine", "Failed", "Holdfastd", "Host", "Skip", "SystemTest", "run", "wait_until"]
