"""What runs models: slots, turns and batches over llama.cpp. Knows no file but GGUFs, and no command line."""
