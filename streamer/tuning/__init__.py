"""From recordings with a truth to the thresholds that suit a model.

truth.py      what happens in recordings: a CSV file of segments, or folders of clips
listening.py  what the model says of them, once; what events that makes with any thresholds
matching.py   events beside what happened
choosing.py   the thresholds of each label and of what is unknown, for a number of false events an hour
report.py     what they do, in lines for people
picture.py    false events an hour against recall, as SVG
"""
