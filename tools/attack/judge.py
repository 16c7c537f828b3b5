"""From what was measured before, during and after an attack to a row of the matrix. Pure.

A row passes when nobody got in or was kept out, the run went on with its own streams and a log of JSON, and afterwards
it takes as many threads and descriptors as before and at most a tenth more memory. The C library keeps some of what was
freed, and takes it again: an attack after which memory stays is made again, and must not add to it. How old frames were
at publication is told, and decides nothing: it depends on the machine, and on what else runs there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tools.peers.usage import Usage

MOST_MEMORY = 1.10
MOST_AGE = 2.0  # times the age before: what is aimed at


@dataclass(frozen=True)
class Phase:
    """What a run took at the end of a phase, its peak memory, and how its labels came."""

    usage: Usage
    peak_mib: float
    labels: int
    age_ms_p50: float
    age_ms_p99: float


@dataclass
class Row:
    """A row of the matrix; `problems` is empty if it passed.

    skipped: why it was not run. kept_mib: what the first of two times left behind, and the second did not add to.
    """

    attack: str
    before: Phase | None = None
    during: Phase | None = None
    after: Phase | None = None
    problems: list[str] = field(default_factory=list)
    skipped: str = ""
    kept_mib: float = 0.0

    @property
    def passed(self) -> bool | None:
        """None if it was skipped."""
        return None if self.skipped else not self.problems

    @property
    def age_ratio(self) -> float | None:
        """p99 of the age at publication, during the attack over before."""
        if not (self.before and self.during and self.before.age_ms_p99):
            return None
        return self.during.age_ms_p99 / self.before.age_ms_p99


def phase(usage: Usage, peak_mib: float, ages_ms: Sequence[float]) -> Phase:
    """A phase in which labels of these ages came."""
    ages = sorted(ages_ms) or [0.0]
    p50, p99 = (ages[int(len(ages) * part)] for part in (0.5, 0.99))
    return Phase(usage, round(peak_mib, 1), len(ages_ms), round(p50, 1), round(p99, 1))


def left_behind(before: Usage, after: Usage) -> list[str]:
    """What a run takes more than before."""
    problems = []
    if after.mib > MOST_MEMORY * before.mib:
        problems.append(f"memory {before.mib:.0f} MiB before, {after.mib:.0f} MiB after")
    for measure in ("threads", "descriptors", "processes"):
        was, stayed = getattr(before, measure), getattr(after, measure)
        if stayed > was:
            problems.append(f"{stayed - was:.0f} {measure} are left behind")
    return problems


def as_json(row: Row) -> dict[str, Any]:
    """A row for machines."""
    return {**asdict(row), "passed": row.passed, "age_ratio": row.age_ratio}


def line(row: Row) -> str:
    """A row for people."""
    if row.skipped or not (row.before and row.during and row.after):
        told = f"skipped: {row.skipped}" if row.skipped else "; ".join(row.problems)
        return f"{row.attack:26} {told}"
    mib = f"{row.before.usage.mib:.0f}/{row.during.peak_mib:.0f}/{row.after.usage.mib:.0f}"
    age = f"{row.before.age_ms_p99:.0f}/{row.during.age_ms_p99:.0f}/{row.after.age_ms_p99:.0f}"
    kept = f"; the first time left {row.kept_mib:.0f} MiB" if row.kept_mib else ""
    told = f"ok{kept}" if row.passed else "FAILED: " + "; ".join(row.problems)
    return f"{row.attack:26} {mib:>13} {age:>12} {row.during.labels:>6}  {told}"
