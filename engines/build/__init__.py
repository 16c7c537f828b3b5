"""From a network to a model that a runtime can load.

model.py         a trained network -> NAME.pt, NAME.onnx, NAME.json
export.py        its step as an ONNX graph
certificate.py   how far a runtime's answers are from the eager network's, over drawn video (scenes.py)
install.py       `streamer build` and `streamer verify`: engines for this machine
importing.py     published checkpoints
torch_tensorrt.py  a TensorRT engine without an ONNX graph
"""
