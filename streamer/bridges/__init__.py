"""What carries labels to where people already are: `streamer bridge`. Each is a subscriber in a process of its own, so
recognition waits for none of them, and none ends when one of its two ends goes away.

feed.py      their common end: messages in, counts out, until somebody says stop
outbox.py    the bounded queue before the other end; trouble.py: what is said of that end, and how often
secret.py    passwords from files and the environment; tls.py: whom to trust
mqtt.py      to an MQTT broker: board.py (what the broker is told, and holds), names.py (labels as parts of topics),
             homeassistant.py (how Home Assistant finds it), knowing.py (labels before they happen), broker.py (its
             address, and why it is not reached), link.py (the connection)
webhook.py   a POST for each event; template.py makes its body
exec.py      a program for each event
"""
