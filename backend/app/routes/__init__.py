"""HTTP: parse, call one verb of a service, return."""
