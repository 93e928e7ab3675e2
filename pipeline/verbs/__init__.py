"""The verbs of `descent`. Light to import: what a verb needs is imported inside it."""
