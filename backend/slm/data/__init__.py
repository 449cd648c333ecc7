"""From a file's bytes to batches of tokens. Imports nothing by itself."""
