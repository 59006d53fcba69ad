# SPDX-License-Identifier: Apache-2.0
# gnuplot -e "data='FILE'; out='docs/amortize'" benchmarks/amortize.gp
# FILE comes from curves.py: blocks 0 to 4 are the schemes a to e.

array names[5] = ["a  in the VMM", "b  64 GiB from birth", "c  may mmap", "d  RPC", "e  rebirth"]
colours = "#888888 #2f5fb3 #8a4fb0 #c2571a #1b7f5c"

set logscale x
set xrange [0.08:1400]
set xtics ("none" 0.1, "1" 1, "10" 10, "100" 100, "1000" 1000)

colour(i) = word(colours, i + 1)
width(i) = i == 4 ? 3 : 1.8

draw = "set multiplot layout 1,2; \
set title 'Throughput'; \
set xlabel 'changes of the memory map a second (as achieved)'; \
set ylabel 'thousand requests a second'; \
unset logscale y; set yrange [0:*]; set ytics auto; \
set key at graph 0.02, graph 0.44 left top reverse Left samplen 3; \
plot for [i=0:4] data index i using 1:2 lw width(i) pt 7 ps 0.8 lc rgb colour(i) title names[i+1]; \
set title 'Latency, 99th percentile'; \
set ylabel 'microseconds'; \
set logscale y; set yrange [*:*]; \
set ytics ('50' 50, '100' 100, '200' 200, '500' 500, '1000' 1000, '2000' 2000, '5000' 5000, '10000' 10000, '20000' 20000); \
unset key; \
plot for [i=0:4] data index i using 1:3 lw width(i) pt 7 ps 0.8 lc rgb colour(i) notitle; \
unset multiplot"

load "benchmarks/plot.gp"
