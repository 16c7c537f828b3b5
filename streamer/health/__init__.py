"""How a run is: logs.py (what it says), metrics.py and monitor.py (figures for Prometheus, /healthz), systemd.py (what
the service manager hears), memory.py (how the C library hands out memory).
"""
