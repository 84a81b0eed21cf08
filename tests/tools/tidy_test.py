#!/usr/bin/python3
"""tools/tidy.py must find what it is there to find, and must let good code pass: bad and good fixtures side by side."""
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools"), os.path.join(ROOT, "tests")]

import pyunit  # noqa: E402
from tidy_rules import coroutines, text  # noqa: E402
from tidy_rules.source import Source  # noqa: E402


def rules(checker, code, path="src/store/x.cc"):
    return sorted({f[2] for f in checker(Source(path, code))})


def coroutine_rules(statement):
    return rules(coroutines.check, "Task<int> f(int n) {\n  int x = 0;\n  " + statement + "\n  co_return x;\n}\n")


class Coroutines(unittest.TestCase):
    def test_allowed_shapes(self):
        for statement in (
                "co_await g();", "x = co_await g();", "this->x_ = co_await g(1, h(2));", "a[1] = co_await g();",
                "const Result<int> r = co_await g(x);", "Result<std::pair<int, char>> r = co_await g();",
                "co_return co_await g();", "if (Status s = co_await g(); !s.ok()) co_return 1;",
                "if (x > 1) co_await g();", "if (x > 1) x = co_await g(); else co_await h();",
                "for (int i = 0; i < 3; ++i) co_await g(i);", "while (x < (n + 1)) { co_await g(); }",
                "switch (x) { case 1: co_await g(); break; default: x = co_await h(); }",
                "(void)co_await g();", "auto& y = co_await g();", "x += co_await g();",
                "Result<size_t> n2 = co_await (*file)->read_at(0, into);",
                "co_await g([](int v) { return v; });", "// if (co_await g()) {}\n",
                'co_await g("a { b } co_await");', "HF_ASSERT(x); co_await g();",
                "auto& [a, b] = pair; co_await g(a);", "Agg named{1, 2}; co_await g(std::move(named));",
                "x = a ? b : c; co_await g();"):
            self.assertEqual(coroutine_rules(statement), [], statement)

    def test_r1_shape(self):
        for statement in (
                "if (co_await g()) { x = 1; }", "while (co_await g()) {}", "for (; co_await g();) {}",
                "for (auto v : co_await g()) {}", "switch (co_await g()) { default: break; }",
                "h(co_await g());", "x = h(co_await g());", "x = (co_await g()).value();", "x = 1 + co_await g();",
                "x = co_await g() && y;", "x = co_await g() ? 1 : 2;", "x = y ? co_await g() : 2;",
                "co_return h(co_await g());", "Agg a{co_await g()};", "Agg a(co_await g());",
                "x = co_await g(co_await h());", "if (!(co_await g()).ok()) co_return 1;",
                "if (Status s = co_await g()) co_return 1;", "HF_CO_TRY(co_await g());", "y && co_await g();",
                "EXPECT_TRUE((co_await g()).ok());"):
            self.assertIn("coroutine-R1", coroutine_rules(statement), statement)

    def test_r2_temporaries(self):
        for statement in (
                "co_await g(Agg{1, 2});", "x = co_await g({.a = 1});", "co_await g([&] { return x; });",
                "x = co_await g([x](int v) { return v + x; });", "co_await g([this]() mutable { h(); });",
                "auto [a, b] = co_await g();", "const auto& [a, b] = co_await g();", "co_return co_await g(Agg{});"):
            self.assertIn("coroutine-R2", coroutine_rules(statement), statement)

    def test_new(self):
        self.assertIn("coroutine-new", coroutine_rules("auto* p = new T(co_await g());"))

    def test_r4_lambda_coroutine(self):
        for statement in ("auto t = [](int v) -> Task<int> { co_return v; };",
                          "auto t = [&]() -> Task<void> { co_await g(); };",
                          "spawn(gate, [this]() -> Task<void> { co_await g(); }());"):
            self.assertIn("coroutine-R4", coroutine_rules(statement), statement)
        self.assertEqual(coroutine_rules("auto t = [&](int v) { return v; };"), [])

    def test_r6_catch(self):
        self.assertIn("coroutine-R6", coroutine_rules("try { h(); } catch (const std::exception& e) { co_await g(); }"))
        self.assertEqual(coroutine_rules("try { h(); } catch (...) { x = 2; }"), [])

    def test_line_number(self):
        finding = list(coroutines.check(Source("src/a/x.cc", "Task<int> f() {\n\n  h(co_await g());\n}\n")))[0]
        self.assertEqual(finding[1], 3)


class Banned(unittest.TestCase):
    def check_each(self, rule, bad, good, path="src/store/x.cc"):
        for code in bad:
            self.assertIn(rule, rules(text.check_banned, code, path), code)
        for code in good:
            self.assertNotIn(rule, rules(text.check_banned, code, path), code)

    def test_calls(self):
        self.check_each("banned-format", ["sprintf(b, \"x\");", "std::sprintf (b);"],
                        ["snprintf(b, 1, \"x\");", "// sprintf(x)"])
        self.check_each("banned-copy", ["strcpy(a, b);"], ["my_strcpy(a, b);", "strncpy(a, b, 1);"])
        self.check_each("banned-system", ["system(\"ls\");", "std::system(c);", "::popen(c, m);"],
                        ["file_system(x);", "world.system(x);", "FileSystem& files;"])
        self.check_each("banned-rand", ["int x = rand();", "std::rand();", "std::mt19937 g;"],
                        ["prng.rand();", "Random& random_;"])
        self.check_each("banned-thread", ["std::thread t(f);", "std::jthread t;"],
                        ["std::this_thread::get_id();", "// std::thread"])
        self.check_each("banned-sleep", ["std::this_thread::sleep_for(x);", "; sleep(1);", "usleep(3);"],
                        ["co_await clock.sleep(1);", "Task<void> sleep(Duration d);", "co_await sleep(d);"])
        self.check_each("banned-clock", ["auto t = std::chrono::system_clock::now();", "gettimeofday(&t, 0);", "time(nullptr);"],
                        ["clock.time(now);", "std::chrono::milliseconds m;"])
        self.check_each("banned-throw", ["throw std::runtime_error(\"x\");"], ["// throw x", "int throw_count;"])

    def test_where_they_belong(self):
        self.assertEqual(rules(text.check_banned, "std::thread t(f);", "src/uring/pool.cc"), [])
        self.assertEqual(rules(text.check_banned, "std::thread t(f);", "src/block/nbd_test.cc"), [])
        self.assertEqual(rules(text.check_banned, "system_clock::now();", "src/base/log.cc"), [])
        self.assertEqual(rules(text.check_banned, "system_clock::now();", "src/base/id.cc"), ["banned-clock"])


class Lengths(unittest.TestCase):
    def lengths(self, code):
        return [(f[2], f[1]) for f in text.check_lengths(Source("src/store/x.cc", code))]

    @staticmethod
    def body(lines):
        return "  x += 1;\n" * lines

    def test_function_length(self):
        heads = ("int f(int a) {\n", "void A::f() const noexcept {\n", "auto f() -> std::vector<int> {\n",
                 "TEST(Suite, Name) {\n", "A::A(int x) : a_{x}, b_(x) {\n", "template <typename T>\nT f(T a, int b = 3) {\n",
                 "bool operator==(const A& a, const A& b) {\n",
                 "namespace hf {\nclass A {\n  int b_ = 3;\n  int f() override {\n")
        for head in heads:
            tail = "}\n" * head.count("{\n")
            long = self.lengths(head + self.body(101) + tail)
            self.assertEqual([r for r, _ in long], ["function-length"], head)
            self.assertEqual([r for r, _ in self.lengths(head + self.body(75) + tail)], ["long"], head)
            self.assertEqual(self.lengths(head + self.body(60) + tail), [], head)

    def test_what_is_no_function(self):
        rows = "  {1, 2},\n" * 150
        for code in ("constexpr Row kRows[] = {\n" + rows + "};\n", "enum class E {\n" + "  kA,\n" * 150 + "};\n",
                     "struct S {\n" + "  int a;\n" * 150 + "};\n", "namespace hf {\n" + "int a;\n" * 150 + "}\n",
                     "const std::vector<Row> kRows = make_rows({\n" + rows + "});\n"):
            self.assertEqual(self.lengths(code), [], code[:40])

    def test_reports_the_first_line_of_the_function(self):
        self.assertEqual(self.lengths("int a;\n\nint f() {\n" + self.body(120) + "}\n"), [("function-length", 3)])

    def test_file_length(self):
        self.assertEqual(self.lengths("int a;\n" * 801), [("file-length", 1)])
        self.assertEqual(self.lengths("int a;\n" * 800), [])


class Text(unittest.TestCase):
    def test_marks(self):
        for line in ("// TODO: later", "# FIXME", "XXX look"):
            self.assertEqual([f[2] for f in text.check_text("a.md", line)], ["unfinished"], line)
        for line in ("mkstemp(\"/tmp/aXXXXXX\")", "todo list", "/var/lib/docker/overlay2/x/work"):
            self.assertEqual(list(text.check_text("a.md", line)), [], line)

    def test_machine_paths(self):
        for line in ("see /wor" + "k/main/src", "/home/alice/holdfast", "/root/.ssh"):
            self.assertEqual([f[2] for f in text.check_text("a.md", line)], ["machine-path"], line)


class Tree(unittest.TestCase):
    """The whole program on a small tree with one of each fault."""

    def run_on(self, files, *arguments):
        with tempfile.TemporaryDirectory() as root:
            for path, content in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as stream:
                    stream.write(content)
            ran = subprocess.run(["/usr/bin/python3", os.path.join(ROOT, "tools", "tidy.py"), "--root", root, *arguments],
                                 capture_output=True, text=True)
            return ran.returncode, ran.stdout

    @staticmethod
    def tree():
        return {
            "src/base/CMakeLists.txt": "hf_room(base SOURCES a.cc)\n",
            "src/base/a.h": "int a();\n",
            "src/base/a.cc": '#include "base/a.h"\nint a() { return 1; }\n',
            "src/runtime/CMakeLists.txt": "set(more b.cc)\nhf_room(runtime SOURCES ${more} DEPENDS base)\n",
            "src/runtime/b.h": '#include "base/a.h"\n',
            "src/runtime/b.cc": '#include "runtime/b.h"\n',
        }

    def test_clean_tree(self):
        self.assertEqual(self.run_on(self.tree()), (0, "tidy: clean (0 functions over 70 lines; --warnings shows them)\n"))

    def expect(self, files, *words):
        code, output = self.run_on(files)
        self.assertEqual(code, 1, output)
        for word in words:
            self.assertIn(word, output)
        self.assertIn("tidy: 1 findings", output)

    def test_include_upwards(self):
        files = self.tree()
        files["src/base/a.cc"] += '#include "runtime/b.h"\n'
        self.expect(files, "src/base/a.cc:3: includes:", "room runtime is above or beside base")

    def test_include_of_a_room_that_is_not_named(self):
        files = self.tree()
        files["src/store/CMakeLists.txt"] = "hf_room(store SOURCES s.cc DEPENDS runtime)\n"
        files["src/store/s.cc"] = '#include "runtime/b.h"\n#include "format/f.h"\n'
        files["src/format/CMakeLists.txt"] = "hf_room(format DEPENDS base)\n"
        files["src/format/f.h"] = "\n"
        self.expect(files, "src/store/s.cc:2: includes:", "format is not in the DEPENDS of store")

    def test_a_test_may_use_the_rooms_of_its_target(self):
        files = self.tree()
        files["src/sim/CMakeLists.txt"] = "hf_room(sim DEPENDS runtime)\n"
        files["src/sim/s.h"] = "\n"
        files["src/runtime/b_test.cc"] = '#include "sim/s.h"\n#include "runtime/b.h"\n'
        cmake = files["src/runtime/CMakeLists.txt"]
        files["src/runtime/CMakeLists.txt"] = cmake + "hf_test(runtime_tests SOURCES b_test.cc ROOMS runtime)\n"
        self.expect(files, "src/runtime/b_test.cc:1: includes:")
        files["src/runtime/CMakeLists.txt"] = cmake + "hf_test(runtime_tests SOURCES b_test.cc ROOMS runtime sim)\n"
        self.assertEqual(self.run_on(files)[0], 0)

    def test_depends_against_the_architecture(self):
        files = self.tree()
        files["src/base/CMakeLists.txt"] = "hf_room(base SOURCES a.cc DEPENDS runtime)\n"
        self.expect(files, "src/base/CMakeLists.txt:1: rooms:", "'base' may not depend on 'runtime'")

    def test_system_headers(self):
        files = self.tree()
        files["src/runtime/b.cc"] += "#include <sys/socket.h>\n"
        self.expect(files, "src/runtime/b.cc:2: includes:", "uring")
        files = self.tree()
        files["src/runtime/b.cc"] += "#include <fstream>\n"
        self.expect(files, "seams alone")

    def test_dead_files(self):
        files = self.tree()
        files["src/base/gone.cc"] = "int g;\n"
        self.expect(files, "src/base/gone.cc:1: dead:")
        files = self.tree()
        files["src/base/gone.h"] = "int g;\n"
        self.expect(files, "src/base/gone.h:1: dead:")

    def test_relative_include(self):
        files = self.tree()
        files["src/runtime/b.cc"] += '#include "../base/a.h"\n'
        self.expect(files, "include from src/")

    def test_only_and_stamp(self):
        files = self.tree()
        files["src/base/gone.h"] = "int g;  // FIXME\n"
        with tempfile.TemporaryDirectory() as folder:
            stamp = os.path.join(folder, "stamp")
            self.assertEqual(self.run_on(files, "--only", "includes", "--stamp", stamp)[0], 0)
            self.assertTrue(os.path.exists(stamp))
        files["src/base/a.cc"] += '#include "runtime/b.h"\n'
        with tempfile.TemporaryDirectory() as folder:
            stamp = os.path.join(folder, "stamp")
            self.assertEqual(self.run_on(files, "--only", "includes", "--stamp", stamp)[0], 1)
            self.assertFalse(os.path.exists(stamp))


if __name__ == "__main__":
    pyunit.main()
