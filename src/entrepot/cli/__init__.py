"""The commands: one file per group. Heavy modules are imported where they are used, so that --help is quick."""
