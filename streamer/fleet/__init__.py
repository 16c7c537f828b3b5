"""Many machines, one address for all labels. Nothing else of `streamer` knows of it but its commands.

facts.py     what head and nodes tell each other, and `Nodes`: the five verbs that the head has
hub.py       `Hub`: hears all nodes, publishes at the fleet's one address
relay.py     what the hub passes on, and what it says itself where nodes cannot; pure
wire.py      what it changes in a message; pure
journal.py   the events that are open, on disk, for the hub after this one
"""
