"""Many machines, one address for all labels. Nothing else of `streamer` knows of it but its commands.

facts.py     what head and nodes tell each other, and `Nodes`: the five verbs that the head has
config.py    fleet.yaml

head.py      `Head.turn`: brings what runs in line with what shall run
pulse.py     which nodes live
placing.py   which node gets which stream, and why
terms.py     numbers that only grow: whose labels of a stream are heard
seats.py     where each source is, what a head must not forget, and what it tells
orders.py    what a head can be asked; desk.py: the socket where it is
reign.py     `rule`: all of a head, from its start to its end

agent.py     what a node does for its head
turns.py     the slow verbs wait until a node can do them
cluster.py   Ray, which carries the verbs; the only file that imports it
join.py      what makes a machine a node, and keeps it one
folder.py    files, folders and processes that outlive who made them

hub.py       `Hub`: hears all nodes, publishes at the fleet's one address
relay.py     what the hub passes on, and what it says itself where nodes cannot; pure
wire.py      what it changes in a message; pure
moving.py    `Move`: a stream goes from node to node with its temporal state
journal.py   the events that are open, on disk, for the hub after this one
"""
