"""What watches over a training: steps that are not finite, spikes, hangs, signals."""
