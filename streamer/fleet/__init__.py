"""Many machines, one address for all labels. Nothing else of `streamer` knows of it but its commands.

facts.py     what head and nodes tell each other, and `Nodes`: the five verbs that the head has
"""
