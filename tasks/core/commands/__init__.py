"""What people type behind `doit`: one module a command."""
