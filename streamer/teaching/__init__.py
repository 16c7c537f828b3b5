"""What teaching needs of the live program; the learning itself is engines/training, which needs torch.

recorder.py  clips of a label, from any source, with a countdown
folder.py    which clips of which label there are, and what is wrong with them
frames.py    their frames, as a network sees them when it runs live
telling.py   lines for people, the last of which changes in place
"""
