"""Layer 1: the bitstream. Names used by the layers above; see the modules for the rest."""
