"""Where leader and drafts disagree along responses that are written already."""
