"""`python -m pipeline` is the `descent` command."""

from pipeline.main import main

if __name__ == "__main__":  # worker processes import this file
    main()
