"""Other people's services: their addresses, and their JSON APIs."""
