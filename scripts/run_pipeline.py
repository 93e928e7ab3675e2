"""`descent run`, as a script for `accelerate launch` and `torchrun`."""

import sys

from pipeline.cli import main

main(["run", *sys.argv[1:]])
