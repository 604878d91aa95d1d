"""Which tensor is shared, local or frozen, and how a shared one travels."""
