"""Documents: read, repaired, filtered, deduplicated, split and augmented."""
