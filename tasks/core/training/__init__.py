"""What training leaves: checkpoints, its log, its curve."""
