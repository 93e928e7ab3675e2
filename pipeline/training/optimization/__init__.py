"""What moves the weights: optimizers, schedules, what is done to gradients, averages."""
