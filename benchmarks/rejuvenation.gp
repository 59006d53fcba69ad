# SPDX-License-Identifier: Apache-2.0
# gnuplot -e "data='FILE'; out='docs/rejuvenation'" benchmarks/rejuvenation.gp
# FILE comes from curves.py: blocks 0 to 2 are planned, 3 to 5 killed, at depth 1, 8, 32.

depths = "1 8 32"
colours = "#1b7f5c #2f5fb3 #c2571a"

set logscale x
set xrange [0.08:700]
set xtics ("0.1" 0.1, "1" 1, "10" 10, "100" 100, "500" 500)

colour(i) = word(colours, i + 1)

draw = "set multiplot layout 1,2; \
set title 'Throughput while being replaced'; \
set xlabel 'replacements a second (as achieved)'; \
set ylabel '% of the undisturbed throughput'; \
unset logscale y; set yrange [0:120<*]; set ytics auto; \
set key bottom left reverse Left samplen 3; \
plot 100 with lines lw 1 dt 3 lc rgb '#888888' notitle, \
  for [i=0:2] data index i using 1:2:3:4 with yerrorbars lw 1 ps 0 lc rgb colour(i) notitle, \
  for [i=0:2] data index i using 1:2 lw 2.5 pt 7 ps 0.8 lc rgb colour(i) title 'planned, depth '.word(depths, i+1), \
  for [i=0:2] data index i+3 using 1:2 lw 2 dt 2 pt 6 ps 0.8 lc rgb colour(i) title 'killed, depth '.word(depths, i+1); \
set title 'Latency, 99th percentile'; \
set ylabel 'microseconds'; \
set logscale y; set yrange [*:*]; \
set ytics ('50' 50, '100' 100, '200' 200, '500' 500, '1000' 1000, '2000' 2000, '5000' 5000, '10000' 10000, '20000' 20000); \
set key top left reverse Left; \
plot for [i=0:2] data index i using 1:6 with lines lw 1.6 dt 3 lc rgb colour(i) title 'undisturbed, depth '.word(depths, i+1), \
  for [i=0:2] data index i using 1:5 lw 2.5 pt 7 ps 0.8 lc rgb colour(i) notitle, \
  for [i=0:2] data index i+3 using 1:5 lw 2 dt 2 pt 6 ps 0.8 lc rgb colour(i) notitle; \
unset multiplot"

load "benchmarks/plot.gp"
