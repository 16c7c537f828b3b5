"""What runs beside the code under test, in processes of their own.

program.py   `streamer run`; usage.py: whether what it takes of the machine stays the same
readers.py   readers of its labels; zmtp.py: peers that do what no library would do
"""
