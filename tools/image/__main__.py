"""Make the image's folders by the steps of its Dockerfile, and try them: python -m tools.image FOLDER

For a machine without a container engine: debootstrap gives the Debian, chroot the rest. Takes root, Debian's
debootstrap, package registries, 3 GB and some minutes. Then `check`, a run and the health check are tried as a user who
is nobody, without HOME, on a read-only root. It prints what they say, and the size.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from tools.errors import ToolError
from tools.image import root
from tools.image.dockerfile import Stage, read_dockerfile

ROOT = Path(__file__).parents[2]
MOST_MB = 900


def healthy(stage: Stage, *run: str) -> list[str]:
    """A shell command that runs a source until the health check is content, half a minute at most, and ends it."""
    begun, health = shlex.join([*stage.entrypoint, "run", *run]), shlex.join(stage.health)
    look = f"if {health} 2>/dev/null; then well=0; break; fi"
    loop = f"for _ in $(seq 60); do {look}; kill -0 $pid || break; sleep 0.5; done"
    return ["sh", "-c", f"{begun} & pid=$!; well=1; {loop}; kill $pid; wait $pid; exit $well"]


def main() -> None:
    """Parse, build, try."""
    parser = argparse.ArgumentParser(prog="python -m tools.image", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the folders go")
    folder = parser.parse_args().folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stages = read_dockerfile(ROOT / "Dockerfile")
        image, stage = root.build(stages, ROOT, folder), stages[-1]
        print(f"size      {(size := root.size_mb(image))} MB of {MOST_MB}")
        for program in ([*stage.entrypoint, *stage.command], healthy(stage, "pattern://swipe", "--headless")):
            print(root.try_program(image, stage.environment, program, 300))
    except ToolError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    sys.exit(size > MOST_MB)


if __name__ == "__main__":
    main()
