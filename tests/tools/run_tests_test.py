#!/usr/bin/python3
"""tools/dev/run_tests.py must count honestly: failures, crashes, skips with reasons, leftovers and lack of time."""
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))

import pyunit  # noqa: E402

# Stands in for a gtest program: writes the XML that gtest would, then ends as told.
FAKE_GTEST = textwrap.dedent("""\
    #!/bin/bash
    if [ "${1:-}" = --gtest_list_tests ]; then printf 'Suite.\\n  Alpha\\n  Beta\\n'; exit 0; fi
    if [ "${GTEST_FILTER:-}" = '*Beta*' ]; then body='<testcase name="Beta" classname="Suite" status="run"/>'
    else body='<testcase name="Alpha" classname="Suite" status="run"/><testcase name="Beta" classname="Suite" status="run"/>
      <testcase name="Gamma" classname="Suite" status="run"><skipped message="file.cc:3&#10;no tape drive"/></testcase>
      <testcase name="Off" classname="Suite" status="notrun"/>'
    fi
    [ "${1:-}" != bad ] || body="$body<testcase name='Worse' classname='Suite' status='run'><failure message='x'/></testcase>"
    echo "<testsuites>$body</testsuites>" > "${GTEST_OUTPUT#xml:}$(basename "$0").xml"
    """)


class RunTests(unittest.TestCase):
    def run_on(self, cmake, *arguments, minutes=None):
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, "src", "base"))
            for name in ("fake_tests", "other_tests"):
                path = os.path.join(root, "src", "base", name)
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(FAKE_GTEST)
                os.chmod(path, 0o755)
            with open(os.path.join(root, "CMakeLists.txt"), "w", encoding="utf-8") as stream:
                stream.write("cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES NONE)\nenable_testing()\n"
                             "add_subdirectory(src/base)\n")
            with open(os.path.join(root, "src", "base", "CMakeLists.txt"), "w", encoding="utf-8") as stream:
                stream.write("set(d ${CMAKE_CURRENT_SOURCE_DIR})\n" + cmake)
            build = os.path.join(root, "build")
            subprocess.run(["cmake", "-S", root, "-B", build, "-G", "Ninja"], check=True, capture_output=True)
            environment = {k: v for k, v in os.environ.items() if not k.startswith(("HOLDFAST_TEST", "GTEST"))}
            if minutes:
                environment["HOLDFAST_TEST_MINUTES"] = str(minutes)
            ran = subprocess.run(
                ["/usr/bin/python3", os.path.join(ROOT, "tools", "dev", "run_tests.py"), "--build", build, *arguments],
                capture_output=True, text=True, env=environment, timeout=400)
            return ran.returncode, ran.stdout, ran.stderr

    def test_counts_cases_of_gtest_and_entries_of_others(self):
        code, out, _ = self.run_on("add_test(NAME fake_tests COMMAND ${d}/fake_tests)\nadd_test(NAME plain COMMAND true)\n")
        self.assertEqual(code, 0, out)
        self.assertEqual(out.splitlines()[-1], "3 passed, 0 failed, 1 skipped")
        self.assertIn("skipped: Suite.Gamma: no tape drive", out)

    def test_two_entries_with_one_case_table_each(self):
        code, out, _ = self.run_on("add_test(NAME fake_tests COMMAND ${d}/fake_tests)\n"
                                   "add_test(NAME other_tests COMMAND ${d}/other_tests)\n")
        self.assertEqual((code, out.splitlines()[-1]), (0, "4 passed, 0 failed, 2 skipped"))

    def test_failure(self):
        code, out, _ = self.run_on("add_test(NAME plain COMMAND false)\nadd_test(NAME good COMMAND true)\n")
        self.assertEqual((code, out.splitlines()[-1]), (1, "1 passed, 1 failed, 0 skipped"))
        self.assertIn("FAILED: plain: Failed", out)

    def test_failed_case_counts_although_the_program_exits_with_zero(self):
        code, out, _ = self.run_on("add_test(NAME fake_tests COMMAND ${d}/fake_tests bad)\n")
        self.assertEqual((code, out.splitlines()[-1]), (1, "2 passed, 1 failed, 1 skipped"))

    def test_crash_and_missing_program(self):
        code, out, _ = self.run_on("add_test(NAME dies COMMAND bash -c \"kill -SEGV $$\")\n"
                                   "add_test(NAME gone COMMAND /nonexistent/x)\n")
        self.assertEqual((code, out.splitlines()[-1]), (1, "0 passed, 2 failed, 0 skipped"))

    def test_skip_shows_the_last_line_as_reason(self):
        code, out, _ = self.run_on("add_test(NAME sk COMMAND bash -c \"echo hello; echo 'SKIP: no root'; exit 77\")\n"
                                   "set_tests_properties(sk PROPERTIES SKIP_RETURN_CODE 77)\n"
                                   "add_test(NAME fine COMMAND true)\n")
        self.assertEqual((code, out.splitlines()[-1]), (0, "1 passed, 0 failed, 1 skipped"))
        self.assertIn("skipped: sk: no root", out)

    def test_leftover_process_is_ended_and_fails_the_run(self):
        code, out, _ = self.run_on("add_test(NAME leaves COMMAND bash -c \"setsid sleep 7654.25 >/dev/null 2>&1 & disown\")\n")
        self.assertEqual((code, out.splitlines()[-1]), (1, "1 passed, 1 failed, 0 skipped"))
        self.assertIn("left running (ended now): sleep 7654.25", out)
        left = subprocess.run(["pgrep", "-f", "sleep 7654.2[5]"], capture_output=True).stdout
        self.assertEqual(left, b"")

    def test_time_limit(self):
        code, out, _ = self.run_on("add_test(NAME slow COMMAND sleep 60)\nadd_test(NAME quick COMMAND true)\n",
                                   minutes=0.5)  # 30 s less 20 s of grace: the quick one has ten for its turn, the slow one too few
        self.assertEqual(code, 1)
        self.assertRegex(out.splitlines()[-1], r"^1 passed, 1 failed, 0 skipped$")
        self.assertIn("time limit", out)

    def test_filters(self):
        cmake = ("add_test(NAME fake_tests COMMAND ${d}/fake_tests)\nadd_test(NAME plain COMMAND false)\n"
                 "set_tests_properties(plain PROPERTIES LABELS odd)\n")
        code, out, _ = self.run_on(cmake, "base:fake")
        self.assertEqual((code, out.splitlines()[-1]), (0, "2 passed, 0 failed, 1 skipped"))
        code, out, _ = self.run_on(cmake, "base:Beta")
        self.assertEqual((code, out.splitlines()[-1]), (0, "1 passed, 0 failed, 0 skipped"))
        code, out, _ = self.run_on(cmake, "odd")
        self.assertEqual((code, out.splitlines()[-1]), (1, "0 passed, 1 failed, 0 skipped"))
        for wrong in ("nowhere", "base:Omega"):
            code, out, err = self.run_on(cmake, wrong)
            self.assertNotEqual(code, 0)
            self.assertIn("there are" if ":" in wrong else "rooms with tests", err.lower())


if __name__ == "__main__":
    pyunit.main()
