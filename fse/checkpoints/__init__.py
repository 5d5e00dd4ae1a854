"""Files of weights, of every format the field uses: read as plain tensors, never as code."""
