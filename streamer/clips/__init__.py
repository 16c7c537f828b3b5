"""Short films around events, with the seconds before them, and what people say of them. Off, nothing of it runs.

    Source.on_packet ──> Preroll.put ──> Take ──┐                       FOLDER/NAME.mp4, NAME.json
    (capture threads)    the last seconds       ├──> Clips._run ──────> FOLDER/answers/LABEL/NAME.mp4, NAME.json
    Stream ──> StreamClips.event, saw ──> Job ──┘    (a thread of its own, behind everything else)
    (engine's thread)

hook.py      what a stream tells of its events and scores, and what it is told of a clip: here, nothing
stream.py    `StreamClips`, the hook of a stream whose clips are kept: begins and ends takes
preroll.py   the packets of the last seconds of a source, in bounded memory; a `Take` is an open clip
unsure.py    which moments the model was least sure of: a few a day
room.py      `Clips`: the thread that writes, deletes, lists and answers
mp4.py       packets -> a file that a browser plays
folder.py    the folder: names, notes, limits, answers
"""
