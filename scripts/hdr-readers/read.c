/* Prints what a histogram log comes to, by the reader of HdrHistogram_c. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "hdr_histogram.h"
#include "hdr_histogram_log.h"

#define LONGEST_NS INT64_C(3600000000000)

int main(int argc, char **argv)
{
    struct hdr_histogram *total = NULL;
    struct hdr_log_reader reader;
    FILE *log = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!log || hdr_init(1, LONGEST_NS, 3, &total) || hdr_log_reader_init(&reader)) {
        fprintf(stderr, "usage: read LOG\n");
        return 1;
    }
    int error = hdr_log_read_header(&reader, log);
    hdr_timespec start, length;
    double first = 0;
    /* What is read is added. */
    while (!error && !(error = hdr_log_read(&reader, log, &total, &start, &length))) {
        if (first == 0) {
            first = (double) start.tv_sec + (double) start.tv_nsec / 1e9;
        }
    }
    if (error != EOF) {
        fprintf(stderr, "cannot read %s: %s\n", argv[1], hdr_strerror(error));
        return 1;
    }
    printf("%lld %lld %lld %lld %lld %.0f\n", (long long) total->total_count,
           (long long) hdr_min(total), (long long) hdr_value_at_percentile(total, 50),
           (long long) hdr_value_at_percentile(total, 99), (long long) hdr_max(total), first);
    return 0;
}
