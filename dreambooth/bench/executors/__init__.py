"""Where jobs are done, one file each: this process, several processes, a Ray cluster."""
