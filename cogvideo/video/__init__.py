"""Read and write clips with PyAV and numpy. No torch: decoding workers import this and little else.

from cogvideo.video import read_clip
clip_THWC = read_clip("v_Archery_g01_c01.avi", start=20, frames=16)
"""

from cogvideo.video.opening import Clip, VideoError
from cogvideo.video.probing import VideoInfo, probe
from cogvideo.video.reading import read_clip
from cogvideo.video.writing import encode_mp4, write_video

__all__ = ["Clip", "VideoError", "VideoInfo", "encode_mp4", "probe", "read_clip", "write_video"]
