"""How the bundled pair is made: its problems, its networks, their training and their export."""
