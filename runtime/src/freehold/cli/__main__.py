"""``python -m freehold.cli``: the command line where no script is installed."""

from __future__ import annotations

from freehold.cli import main

main()
