"""The side-by-side benchmark of Freehold and Ray: `make bench`, or `python -m benchmarks.run`.

Not part of the distribution. `run.py` is where to start reading; `rows/` holds the programs.
"""
