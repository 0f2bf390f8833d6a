"""Which models there are, here and in families in use, and which of them fit together."""
