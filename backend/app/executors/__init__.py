"""How a run directory is carried to a machine and back: one module per way, all behind `base.Executor`."""
