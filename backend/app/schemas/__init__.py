"""Wire shapes, one module per noun."""
