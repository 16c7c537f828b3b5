"""What goes out. Pure: events.py (probabilities -> events), messages.py (the wire format), news.py (messages as text),
commands.py (what a run can be asked, and answers).

Sockets: publisher.py and subscriber.py (the label stream), outlet.py (what a publisher sends by), control.py and
requests.py (a run is asked and changed), addresses.py and curve.py (where they listen, and for whom), guard.py (how
much one peer may take up), runtime.py (where `streamer ctl` finds the runs of its user).
"""
