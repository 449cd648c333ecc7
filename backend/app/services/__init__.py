"""The verbs. Session first, keywords after; they flush and never commit; no file or socket work in a transaction."""
