"""Write the reference pages that are made from the code, and the JSON Schema of the messages.

python -m tools.docs           # the pages; a test compares them with the code
python -m tools.docs.film      # docs/pictures/live.webp, the moving picture of README.md
python -m tools.docs.shots     # the page in every situation and on every screen, to look at
"""

from __future__ import annotations

import json
from pathlib import Path

from streamer.labels import messages
from tools.docs import FOLDER, PAGES


def main() -> None:
    """Write what changed, and name it."""
    made = {FOLDER / name: page() for name, page in PAGES.items()}
    made[Path(messages.__file__).with_name("labels.schema.json")] = json.dumps(messages.schema(), indent=2) + "\n"
    for path, text in made.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
