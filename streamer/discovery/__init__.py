"""Which cameras there are: webcams, and network cameras that speak ONVIF. `streamer discover` prints them.

probe.py    who on the network is a camera: WS-Discovery
onvif.py    which streams a camera has, and where
webcams.py  webcams of Linux, with their names and modes: V4L2
listing.py  all of it as `sources` of a configuration
found.py    the records of what is found
"""
