"""Where the work on shards is done: in processes of this machine."""
