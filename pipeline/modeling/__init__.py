"""Models: built from a configuration, described, saved as ordinary Hugging Face folders."""
