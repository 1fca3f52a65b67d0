"""Where bases, data and adapters come from: hubs, git, archives, folders."""
