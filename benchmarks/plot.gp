# SPDX-License-Identifier: Apache-2.0
# What the plots of benchmarks share: loaded last, with `draw` and `out` set; writes out.png and out.svg.

set style line 10 lc rgb "#dddddd" lw 1
set grid xtics ytics ls 10
set border 3 lc rgb "#666666"
set tics nomirror textcolor rgb "#333333"
set style data linespoints

set terminal pngcairo size 1200,520 font "DejaVu Sans,11" background rgb "#ffffff"
set output out.".png"
eval draw

set terminal svg size 1200,520 font "DejaVu Sans,13" background rgb "#ffffff"
set output out.".svg"
eval draw
