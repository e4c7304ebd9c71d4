"""What a piece of work took: memory that it had and gave back is seen, and earlier peaks are not."""

import time

import numpy as np

from eval.costs import Cost, Meter, peak_memory_bytes, resident_bytes

MEBIBYTE = 1 << 20


def test_a_peak_inside_the_block_is_seen_and_one_before_it_is_not():
    before = resident_bytes()
    with Meter() as large:
        block = np.ones(200 * MEBIBYTE, np.uint8)
        time.sleep(0.2)
        del block
    with Meter() as small:
        pass
    assert large.cost.peak_bytes > before + 150 * MEBIBYTE
    assert small.cost.peak_bytes < large.cost.peak_bytes - 100 * MEBIBYTE
    assert peak_memory_bytes() >= large.cost.peak_bytes - MEBIBYTE
    assert large.cost.seconds >= 0.2
    assert large.cost.gpu_seconds == large.cost.gpu_peak_bytes == 0


def test_seconds_add_up_and_of_memory_the_most_counts():
    whole = Cost(1.0, 10, 0.5, 7)
    whole.add(Cost(2.0, 5, 0.25, 9))
    assert whole == Cost(3.0, 10, 0.75, 9)
