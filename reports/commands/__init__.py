"""The commands of `cogeval` that write pages, one file each; a module is imported when its command is used."""
