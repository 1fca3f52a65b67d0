"""Keys, manifests, the store, locks: what makes a result, keeps it and knows when it is stale."""
