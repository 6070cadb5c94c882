"""Prints what a histogram log comes to, by the reader of PyPI's hdrhistogram."""

import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

LONGEST_NS = 3_600_000_000_000

total = HdrHistogram(1, LONGEST_NS, 3)
reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, LONGEST_NS, 3))
first = 0
while interval := reader.get_next_interval_histogram():
    first = first or interval.get_start_time_stamp() / 1000
    total.add(interval)
at = total.get_value_at_percentile
print(total.get_total_count(), total.get_min_value(), at(50), at(99), total.get_max_value(),
      round(first))
