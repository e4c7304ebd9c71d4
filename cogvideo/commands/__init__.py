"""Commands of CogVideo, loaded by the door when they are asked for."""
