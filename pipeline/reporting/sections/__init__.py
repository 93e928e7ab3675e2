"""The sections of a report page, a file each."""
