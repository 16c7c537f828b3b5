"""The way of one frame, from the camera to the label. Read the files in this order and you have read the program.

capture.py   `Capture`: a thread for each source reads it, by `Reader.run` of sources/reader.py
intake.py    `Intake.offer`: in the capture thread; does the network want this frame? If so it is scaled for it
pace.py      `Pace.see`: how far apart the source gives its frames by habit
sampler.py   `Sampler.offer`: takes frames at the rate that the network was trained at, and notices lost time
sight.py     `Sight.see`: all of the picture, or the part that is a stream's view
ring.py      `Ring.push`: the newest frames of a stream, in memory that is taken once; the oldest goes when it is full
pipeline.py  `Pipeline.run`: the engine's thread; turns the loop, answers requests
rows.py      `Rows.step`: which stream has which row of the engine's state
stream.py    `advance`, `Stream.take`: the next frame of each stream goes into its row of the batch
between.py   `Coming.add`: what a source slower than the network did not show comes before its next frame
batcher.py   `Batcher.step`: one step of the engine for all rows that have a frame: logits [rows, K]
stream.py    `Stream.decide`: what the logits of one row mean for its stream: probabilities, and with them
             labels/events.py `Decider.update`: smoothing, thresholds, durations: events begin and end here
             labels/messages.py `MessageBuilder`: score, state and event as messages with sequence numbers
announcer.py `Announcer.send`: to labels/publisher.py `Publisher.send`, out over ZeroMQ; then to the listeners

Beside the way: watch.py looks after the sources and tells how they are, shedding.py leaves frames out when the engine
is too slow, exchange.py loads another model, moving.py gives streams to other runs and takes theirs (held.py keeps
frames meanwhile), meters.py measures, summary.py counts what a run did, replay.py goes the same way with a recording,
in one thread and without clocks, and frames.py goes it up to the engine, for programs that run a model themselves.
"""
