"""How a run is: logs.py (what it says), metrics.py and monitor.py (figures for Prometheus, /healthz), endpoint.py (the
HTTP listener for both), systemd.py (what the service manager hears).
"""
