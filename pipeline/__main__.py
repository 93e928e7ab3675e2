"""`python -m pipeline` is the `descent` command."""

from pipeline.cli import main

main()
