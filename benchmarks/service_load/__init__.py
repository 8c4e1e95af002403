"""Load on the reference service: real processes, real HTTP, PostgreSQL restarted meanwhile.

``python -m benchmarks.service_load --help`` says what can be chosen; `make load` runs it.
"""
