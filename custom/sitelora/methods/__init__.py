"""One file per paper or baseline: the function of the same name returns the method (`sitelora.method.Method`)."""
