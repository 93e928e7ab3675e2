"""`descent run`, as a script for `accelerate launch` and `torchrun`."""

import sys

from pipeline.main import main

if __name__ == "__main__":  # worker processes import this file
    main(["run", *sys.argv[1:]])
