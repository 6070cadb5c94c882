module reflectortest

go 1.19
