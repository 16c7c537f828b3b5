"""Networks side by side: python -m tools.compare.

motion.py     each is trained on the same drawn clips, by training.py, and asked about others
jhmdb.py      what people do, on J-HMDB; few.py: with a few clips of each action, shots.py
networks.py   TSN, TSM and TCM trained on it: runs.py is one of these trainings, by finetune.py; packed.py: J-HMDB
              small enough to be carried; tuned.py: what the trained ones tell of its clips themselves
steps.py      what a step of a stream costs
"""
