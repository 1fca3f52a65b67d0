"""Model files: read, added up, written; streamed, bounded in memory, checked."""
