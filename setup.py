"""What pyproject.toml cannot say: the README as an index shows it, without pictures and links to files beside it.

The project has no public address yet, so `project.urls` is missing in pyproject.toml. With one, name it there, and let
links and pictures lead to it here.
"""

import re
from pathlib import Path

from setuptools import setup

text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
text = re.sub(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n+", "", text, flags=re.M)
text = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)
setup(long_description=text, long_description_content_type="text/markdown")
