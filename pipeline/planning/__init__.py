"""Parameters, FLOPs, memory and time of a training, estimated before anything runs."""
