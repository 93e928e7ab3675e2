"""`python -m pipeline` is the `descent` command."""

from pipeline.main import main

main()
