"""docs/reference/fleet.md: every key of fleet.yaml, from its models."""

from __future__ import annotations

from streamer.commands.keys import keys, keys_below
from streamer.config import CurveConfig, SourceConfig
from streamer.fleet.config import OURS, FleetConfig, FleetSource
from tools.docs.configuration import section
from tools.docs.markdown import MADE

_INTRODUCTION = f"""{MADE}
# fleet.yaml

What the head of a [fleet](../tasks/fleet.md) obeys: `streamer fleet head -c fleet.yaml`. Its options come before the
file: `--labels`, `--at`, `--folder`, and `--curve` with `--readers` for `curve`. There are no variables of the
environment for it, and no `--set`.

An unknown key, a value that cannot be, two sources of one name, and an address that no node could read end the head
with one sentence and exit code 2, or 3 for an address. `run` is checked as a configuration of `streamer run` is.
"""


_RUN = f"""## `run`

The keys of [a run](configuration.md), but for {", ".join(f"`{key}`" for key in OURS)}: the fleet sets those. A node's
own file, `streamer fleet join -c node.yaml`, has the same keys, not below `run`, and comes before these.
"""


def fleet_page() -> str:
    """The page."""
    top = {key.path: key for key in keys(FleetConfig)}
    sources = [key for key in keys_below(top["sources"]) if key.path.split(".")[-1] not in SourceConfig.model_fields]
    parts = [
        _INTRODUCTION,
        section(FleetConfig, "The fleet", list(top.values())),
        section(FleetSource, "`sources.0`", sources),
        "All keys of a source of `streamer run` are allowed as well: [`sources.0`](configuration.md#sources0).\n",
        section(CurveConfig, "`curve`", keys_below(top["curve"])),
        _RUN,
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)
