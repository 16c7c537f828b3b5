"""Looking at what a recogniser sees: a page in the browser, a window on a desk, an annotated video.

`feed.py` keeps the newest messages, `pictures.py` makes JPEGs of the newest frames, `viewer.py` is one browser,
`server.py` serves them all, and `process.py` does so outside of the recognition's process; `page/` is what the browser
runs. `overlay.py` draws labels into pictures, for `window.py` and `render.py`.
"""
