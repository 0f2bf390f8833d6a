"""An OpenAI-compatible HTTP server: `foreal serve`. Needs the extra `server`; knows the engine, and no llama.cpp."""
