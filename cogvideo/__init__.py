"""CogVideo: text to video. Importing this package costs nothing; import the module that you need."""
