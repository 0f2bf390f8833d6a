"""The method: flows, gates, sentences, one response in the making. Knows no model and no file."""
