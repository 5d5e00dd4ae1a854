"""Small stand-ins of every official file, in the official formats, for the rehearsal of the paper profile."""
