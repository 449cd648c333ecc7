"""The control plane: rows, leases, HTTP. Never loads a tensor."""
