module pellicle.io/lab/pause

go 1.25.0
