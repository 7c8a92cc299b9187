"""The command line: one file per group of commands, over what notebooks use too."""
