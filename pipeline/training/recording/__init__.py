"""What a training records: losses, speed, memory."""
