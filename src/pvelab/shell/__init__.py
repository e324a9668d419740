"""A small but true POSIX shell, and the files and commands it works on."""
