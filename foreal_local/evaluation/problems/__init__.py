"""Problems with known answers, and the grading of responses."""
