"""Images: layers, layouts, registries, engines."""
