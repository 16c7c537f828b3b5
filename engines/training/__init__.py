"""What teaches a network from clips. It needs torch and the extra `train`, so nothing else in `engines` imports it.

recipe.py    what a run is told: the network, the optimiser, the parts of the run
feed.py      `Feed`, which a run asks for clips and for results on held-out ones; `Batch`, what it gets
sampling.py  which frames of a video a network sees
augment.py   how they are cut and distorted
head.py      the last layer alone, solved for on vectors that were computed once
mirror.py    what a label becomes when its clip is mirrored
initial.py   the weights to begin with, what stays frozen, and the teacher
trainer.py   `Trainer`: gradients, one update, the checkpoint
teach.py     a model of one's own labels from a few clips: what `streamer teach` does
loop.py      `run`: step by step to the end, or until it is asked to stop
progress.py  what a run tells: a bar, metrics.csv, TensorBoard's files
launch.py    `train`: the processes of a run, from the recipe to the model's files
"""
