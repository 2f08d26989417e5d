library(parallel)
cat(sum(unlist(mclapply(1:8, function(number) number, mc.cores = 8))), "\n", sep = "")
