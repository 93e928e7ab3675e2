"""The processes of a launch: how they share out a model and its batches, and their collectives."""
