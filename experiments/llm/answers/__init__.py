"""Where candidate answers come from: language models, in a synthetic world or the hub, or recorded files."""
