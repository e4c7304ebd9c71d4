"""The commands of `cogeval` that measure, one file each; a module is imported when its command is used."""
