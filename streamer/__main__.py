"""`python -m streamer`: the same as the command `streamer`."""

from streamer.commands import main

main()
