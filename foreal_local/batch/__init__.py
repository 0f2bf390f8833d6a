"""Files of prompts answered offline: prompts, records, traces, resuming."""
