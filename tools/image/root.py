"""A stage of a Dockerfile as a folder with a Debian in it, and programs that run there."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.errors import ToolError
from tools.image.dockerfile import Copy, Run, Stage

BASE = "debian:bookworm-slim"
_LENT = {
    "/etc/resolv.conf": "/etc/resolv.conf",
    "/etc/pip.conf": "/etc/pip.conf",
    "/etc/ssl/certs/ca-certificates.crt": "/run/lent.crt",
}
"""What programs need to reach package registries from here, and where a stage has it while its steps run."""
_IGNORED = shutil.ignore_patterns("__pycache__")  # as .dockerignore says
NOBODY = "54321:54321"
"""Not the user of the image: any must do."""
_PIP = {"PIP_CERT": "/run/lent.crt", "DEBIAN_FRONTEND": "noninteractive"}


def build(stages: Sequence[Stage], checkout: Path, folder: Path) -> Path:
    """Make the stages in `folder`, one after the other; the last one's root. ToolError.

    A Debian that lies in folder/debian already is taken.
    """
    debian = folder / "debian"
    if not debian.exists():
        command = ("debootstrap", "--variant=minbase", BASE.partition(":")[2].partition("-")[0], str(debian))
        run(command, "debootstrap")
        _prune(debian)
    roots: dict[str, Path] = {}
    for number, stage in enumerate(stages):
        if stage.base != BASE:
            raise ToolError(f"FROM {stage.base}: only {BASE} can be made here")
        root = roots[stage.name or "image"] = folder / (stage.name or "image")
        if root.exists():
            raise ToolError(f"{root}: is there already; name another folder, or remove it")
        run(("cp", "--archive", str(debian), str(root)), f"stage {number}")
        for step in stage.steps:
            if isinstance(step, Copy):
                _copy(step, roots.get(step.of, checkout), root)
            else:
                _run(step, stage, root)
    return root


def _prune(debian: Path) -> None:
    """Leave out what Docker's slim Debian leaves out, and keep apt from keeping what it has fetched."""
    for folder in ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists"):
        for path in (debian / folder).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (debian / "etc/apt/apt.conf.d/no-cache").write_text(
        'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache ""; APT::Keep-Downloaded-Packages "false";\n'
    )


def _copy(step: Copy, where: Path, root: Path) -> None:
    """Copy as a Dockerfile does: what is in a folder, and a file into a folder whose name ends with a slash."""
    target = root / step.target.lstrip("/")
    for name in step.sources:
        source = where / name.lstrip("/")
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=None if step.of else _IGNORED)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def _run(step: Run, stage: Stage, root: Path) -> None:
    """A RUN as root, with this machine's way to package registries."""
    (root / step.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    lent = {Path(path): root / place.lstrip("/") for path, place in _LENT.items() if Path(path).exists()}
    made = [place for place in lent.values() if not place.exists()]
    for place in made:
        place.touch()
    binds = "".join(f"mount --bind {path} {shlex.quote(str(place))}\n" for path, place in lent.items())
    command = within(root, binds, stage.environment | _PIP, "0:0", ["sh", "-ec", f"cd {step.folder}; {step.command}"])
    run(("unshare", "--mount", "--pid", "--fork", "sh", "-ec", command), f"RUN {step.command}")
    for place in made:
        place.unlink()


def try_program(root: Path, environment: Mapping[str, str], program: Sequence[str], limit_s: float) -> str:
    """What a program says on a root that is read-only, as a user who is nobody here and has no HOME, with a loopback
    interface alone. ToolError if it fails.
    """
    loopback = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"
    before = f"""{shlex.quote(sys.executable)} -c "{loopback}"
mountpoint -q {shlex.quote(str(root))} || mount --bind {shlex.quote(str(root))} {shlex.quote(str(root))}
mount -o remount,bind,ro {shlex.quote(str(root))}
mount -t tmpfs tmpfs {shlex.quote(str(root / "tmp"))}
"""
    command = within(root, before, environment, NOBODY, program)
    spaces = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-ec", command)
    return run(spaces, shlex.join(program)[:100], limit_s)


def within(root: Path, before: str, environment: Mapping[str, str], user: str, program: Sequence[str]) -> str:
    """The shell command, for namespaces of its own, that does what is to be done before, and runs a program there."""
    known = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    variables = shlex.join(f"{name}={value}" for name, value in known.items())
    where = shlex.quote(str(root))
    return f"""{before}mount -t proc proc {shlex.quote(str(root / "proc"))}
exec chroot --userspec={user} {where} env -i {variables} {shlex.join(program)}"""


def run(command: Sequence[str], what: str, limit_s: float = 3600) -> str:
    """What a program said. ToolError with the last of it, if it failed."""
    try:
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            check=False, timeout=limit_s,
        )  # fmt: skip
    except FileNotFoundError:
        raise ToolError(f"{what}: needs {command[0]}; apt-get install {command[0]}") from None
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{what}: not done within {limit_s:g} s: {str(error.stdout)[-2000:]}") from None
    if ran.returncode:
        raise ToolError(f"{what}: failed with {ran.returncode}: {ran.stdout[-2000:]}")
    return ran.stdout


def size_mb(root: Path) -> int:
    """What a folder takes, MB (10^6 bytes)."""
    told = run(("du", "--summarize", "--bytes", "--one-file-system", str(root)), "du")
    return round(int(told.split()[0]) / 1e6)
