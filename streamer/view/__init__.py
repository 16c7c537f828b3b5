"""Looking at what a recogniser sees: a page in the browser, a window on a desk, an annotated video, a terminal.

The page, in the order of the way to the browser:
feed.py       the newest messages, kept for those who open the page later
pictures.py   JPEGs of the newest frames
server.py     serves the page to all browsers; auth.py says who may look
viewer.py     one browser: what it asks for and gets, over websocket.py
asking.py     what it may ask of the run; trial.py: what other thresholds would have made of the last minute
clips.py      the run's clips, for the browser's player
api.py        the run over HTTP, for programs; openapi.py: what it says of itself
process.py    all of this in a process of its own
page/         what the browser runs

overlay.py    labels drawn into pictures (colours.py), for window.py and render.py
terminal.py   what `streamer run` shows
"""
