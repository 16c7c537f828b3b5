"""The steps of the Dockerfile without a container engine: python -m tools.image FOLDER

dockerfile.py  what a Dockerfile says
root.py        its stages as folders, and programs in them
"""
