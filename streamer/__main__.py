"""`python -m streamer`: the same as the command `streamer`."""

from streamer.cli import main

main()
