"""From a network to a model that a runtime can load.

model.py         a trained network -> NAME.pt, NAME.onnx, NAME.json
export.py        its step as an ONNX graph, in which constants.py computes once what never changes
certificate.py   how far a runtime's answers are from the eager network's, over drawn video (scenes.py)
agreement.py     whether steps that are replayed as CUDA graphs answer as the same steps do one by one
install.py       `streamer build` and `streamer verify`: engines for this machine
importing.py     published checkpoints
torch_tensorrt.py  a TensorRT engine without an ONNX graph
"""
