"""The training library: examples, loss, checkpoints, evaluation. Imports nothing; knows no HTTP server and no SQL."""
