#!/usr/bin/python3
"""What our pages name is there."""
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import pyunit  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Links(unittest.TestCase):
    def test_files_that_pages_name(self):
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "*.md"], capture_output=True, text=True, check=True)
        pages = listed.stdout.split()
        self.assertGreater(len(pages), 20)
        missing = []
        for page in pages:
            with open(os.path.join(ROOT, page), encoding="utf-8") as stream:
                text = re.sub(r"^```.*?^```$", "", stream.read(), flags=re.M | re.S)
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
                if not os.path.exists(os.path.join(ROOT, os.path.dirname(page), target)):
                    missing.append(f"{page}: {target}")
            for target in re.findall(r"`((?:docs|tests|tools|src|bench|deploy)/[\w./-]+\.\w+)`", text):
                if not os.path.exists(os.path.join(ROOT, target)):
                    missing.append(f"{page}: {target}")
        self.assertEqual(missing, [])


if __name__ == "__main__":
    pyunit.main()
