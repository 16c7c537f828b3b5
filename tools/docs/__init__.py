"""The pages of docs/reference that are made from the code, so that they cannot say anything else than it.

configuration.py, fleet.py, commands.py, messages.py, api.py   one page each: python -m tools.docs
markdown.py   docstrings and tables as Markdown
film.py       the moving picture of the README: python -m tools.docs.film
shots.py      the page in every situation, to look at: python -m tools.docs.shots
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.docs.api import api_page
from tools.docs.commands import commands_page
from tools.docs.configuration import configuration_page
from tools.docs.fleet import fleet_page
from tools.docs.messages import messages_page

FOLDER = Path("docs/reference")
PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration_page,
    "fleet.md": fleet_page,
    "commands.md": commands_page,
    "messages.md": messages_page,
    "python.md": api_page,
}
