"""Runs unittest so that ./dev test can count single cases and show why one was skipped.

main() writes an XML in the shape of gtest's into $HOLDFAST_TEST_RESULTS, and exits with 77 (ctest: skipped) where every
case was skipped, with the reason as the last line.
"""
import os
import sys
import time
import traceback
import unittest
import xml.etree.ElementTree as ElementTree

SKIPPED = 77


class _Result(unittest.TextTestResult):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.rows = []
        self._began = time.monotonic()

    def startTest(self, test):
        super().startTest(test)
        self._began = time.monotonic()

    def _row(self, test, kind, message=""):
        where, _, name = test.id().rpartition(".")
        self.rows.append((where.rpartition(".")[2] or where, name, kind, message, time.monotonic() - self._began))

    def _broken(self, test, err):
        self._row(test, "failure", "".join(traceback.format_exception(*err)))

    def addSuccess(self, test):
        super().addSuccess(test)
        self._row(test, "passed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._broken(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._broken(test, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._row(test, "skipped", reason)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._broken(test, err)


def write_results(rows, name):
    folder = os.environ.get("HOLDFAST_TEST_RESULTS")
    if not folder:
        return
    suite = ElementTree.Element("testsuites", name=name)
    for where, case, kind, message, seconds in rows:
        node = ElementTree.SubElement(suite, "testcase", classname=where, name=case, status="run", time=f"{seconds:.3f}")
        if kind != "passed":
            ElementTree.SubElement(node, kind, message=message)
    ElementTree.ElementTree(suite).write(os.path.join(folder, name + ".xml"))


def skip_all(reason):
    print(f"SKIP: {reason}", flush=True)
    sys.exit(SKIPPED)


def main(module="__main__", name=None):
    """Runs the cases of a module, or those named on the command line. name: that of the ctest entry."""
    name = name or os.environ.get("HOLDFAST_TEST_NAME") or os.path.basename(sys.argv[0]).removesuffix(".py")
    loader = unittest.TestLoader()
    if len(sys.argv) > 1:
        suite = loader.loadTestsFromNames(sys.argv[1:], sys.modules[module])
    else:
        suite = loader.loadTestsFromModule(sys.modules[module])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=_Result).run(suite)
    write_results(result.rows, name)
    if not result.wasSuccessful():
        sys.exit(1)
    kinds = {row[2] for row in result.rows}
    if not kinds:
        print("no cases ran")
        sys.exit(1)
    if kinds == {"skipped"}:
        skip_all("; ".join(sorted({row[3] for row in result.rows})))
    sys.exit(0)
