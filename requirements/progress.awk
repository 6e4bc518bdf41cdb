# Turns what pip prints into one bar: pip install … | awk -v total=N -v tty=1 -f progress.awk
/^(Collecting|Processing|Requirement already)/ {
  if (!tty || !total) next
  done++
  width = 40; filled = int(width * done / total); bar = ""
  for (i = 0; i < width; i++) bar = bar (i < filled ? "━" : " ")
  printf "\r  %s %d/%d packages", bar, done, total
  fflush()
}
/^Installing collected/ && tty { printf "\r  writing them to the disk …%40s", ""; fflush() }
END { if (tty) printf "\r%70s\r", "" }
