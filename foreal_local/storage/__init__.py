"""What is kept on disk: sessions, checkpoints, files that are never half-written."""
